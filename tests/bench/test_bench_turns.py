"""Who runs when: rounds of contenders and the relay of trainings, by what they did and not by the clock."""

from __future__ import annotations

from functools import partial

import pytest

from bench import rounds
from bench.relay import Baton, Lap, Track, rate, relay
from bench.stop import Stop


def test_every_second_round_goes_backwards() -> None:
    order: list[str] = []
    seconds = rounds.take_turns({name: partial(order.append, name) for name in "abc"}, rounds=3, pause_s=0.0)
    assert "".join(order) == "abccbaabc"
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_rate_is_the_amount_over_each_rounds_seconds() -> None:
    assert rounds.per_second({"a": [2.0, 4.0]}, 8.0) == {"a": [4.0, 2.0]}


def test_a_rate_over_laps_weighs_them_by_their_time() -> None:
    assert rate([Lap(10, 1.0), Lap(10, 4.0)]) == 4.0


@pytest.mark.parametrize(("laps", "counted"), [(1, 1), (2, 2), (3, 2), (9, 8)])
def test_the_first_lap_warms_up_where_others_are_enough(laps: int, counted: int) -> None:
    assert len(Track([Lap(1, 1.0)] * laps).steady) == counted


def steady(baton: Baton, steps: int) -> str:
    baton.start()
    for _ in range(steps):
        baton.step(16)
    baton.stop()
    return "done"


def broken(baton: Baton, steps: int) -> str:
    baton.start()
    raise SystemExit(3)


@pytest.mark.slow
def test_in_a_relay_every_step_is_in_one_lap_and_every_result_comes_back() -> None:
    tracks = relay({"one": steady, "two": steady}, 5, lap_s=0.0)
    for track in tracks.values():
        assert [lap.examples for lap in track.laps] == [16] * 5
        assert track.result == "done"


@pytest.mark.slow
def test_a_runner_that_breaks_off_stops_the_relay_and_its_sentence_names_it() -> None:
    with pytest.raises(Stop, match="two"):
        relay({"one": steady, "two": broken}, 3, lap_s=60.0)
