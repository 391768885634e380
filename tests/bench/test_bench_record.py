"""What a bench says of its figures: medians, ratios, targets met or not, the JSON and the table."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.record import Figure, Record, Target, figure, number, ratios, table

POSITIVE = st.floats(min_value=1e-3, max_value=1e6)
MACHINE = {"processor": "Any (R) CPU @ 2.0GHz", "cores": 2, "load_before": 0.1}


def record(*figures: Figure) -> Record:
    return Record("encoder", "quick", {"rounds": 3}, figures, ("a GPU: none",), MACHINE, {"torch": "1"}, "abc", "now")


@pytest.mark.parametrize(
    ("target", "value", "is_met"),
    [
        (Target(7.0), 7.0, True),
        (Target(7.0), 6.999, False),
        (Target(1.0, at_most=True), 1.0, True),
        (Target(1.0, at_most=True), 1.001, False),
        (Target(7.0), math.nan, False),
        (Target(1.0, at_most=True), math.nan, False),
    ],
)
def test_a_target_is_met_at_its_limit_and_never_by_what_is_no_number(
    target: Target, value: float, is_met: bool
) -> None:
    assert target.is_met(value) is is_met


def test_a_figure_is_the_median_with_the_extremes_beside_it() -> None:
    assert figure("rate", [3.0, 1.0, 2.0], "x") == Figure("rate", 2.0, "x", 1.0, 3.0)


def test_a_figure_says_whether_it_met_its_target_and_nothing_without_one() -> None:
    missed = Figure("ratio", 2.0, target=Target(7.0))
    assert (missed.verdict, Figure("ratio", 7.5, target=Target(7.0)).verdict) == ("NOT MET", "met")
    assert Figure("ratio", 2.0).verdict == ""


@given(st.lists(st.tuples(POSITIVE, POSITIVE, POSITIVE), min_size=1, max_size=9))
def test_what_slows_a_whole_round_leaves_its_ratio_as_it_was(rounds: list[tuple[float, float, float]]) -> None:
    quiet = {"ours": [ours for ours, _, _ in rounds], "peer": [peer for _, peer, _ in rounds]}
    busy = {who: [rate / slow for rate, (_, _, slow) in zip(quiet[who], rounds, strict=True)] for who in quiet}
    assert ratios(busy, "ours", "peer") == pytest.approx(ratios(quiet, "ours", "peer"))


def test_a_ratio_over_rounds_that_one_side_did_not_run_is_refused() -> None:
    with pytest.raises(ValueError):
        ratios({"ours": [1.0, 2.0], "peer": [1.0]}, "ours", "peer")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12345.6, "12,346"),
        (7.0, "7"),
        (0.16667, "0.1667"),
        (0.99999, "0.99999"),
        (0.9999997, "0.9999997"),
        (1.0, "1"),
        (1 - 1e-9, "1"),
    ],
)
def test_numbers_keep_the_digits_that_carry_meaning(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_number_that_could_not_be_made_is_a_dash() -> None:
    assert number(math.nan) == "-"


def test_the_json_carries_figures_targets_verdicts_and_what_it_was_measured_on() -> None:
    made = json.loads(record(figure("ratio", [2.0], "x", target=Target(7.0)), Figure("rate", 5.0)).as_json())
    assert [one["verdict"] for one in made["figures"]] == ["NOT MET", ""]
    assert [one["target"] for one in made["figures"]] == [">= 7", None]
    assert made["machine"] == MACHINE
    assert (made["revision"], made["versions"], made["skipped"]) == ("abc", {"torch": "1"}, ["a GPU: none"])


def test_a_record_names_its_file_by_bench_mode_and_machine() -> None:
    assert record().file_name == "encoder-quick-any-r-cpu-2-0ghz-2c.json"


def test_the_table_says_aloud_what_was_missed_and_what_was_left_out() -> None:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(table(record(Figure("ratio", 2.0, "x", 1.5, 2.5, Target(7.0)), Figure("other", 9.0))))
    text = shown.get()
    assert "NOT MET" in text
    assert "1.5 .. 2.5" in text
    assert "left out: a GPU: none" in text
