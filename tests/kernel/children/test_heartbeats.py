"""Heartbeats: who has fallen silent, who is heard again, and who is to be ended."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.frame import Beat, Chunks, Ready
from llmos.abi.process import Priority, Process, Spec, State
from llmos.kernel import events as ev
from llmos.kernel.children.supervisor import LOADING, NOTICED_AFTER_S, Heartbeats

SERVE = Process(1, Spec("serve", priority=Priority.INTERACTIVE), State.READY, os_pid=11)
TRAIN = Process(1, Spec("train", priority=Priority.BACKGROUND), State.READY, os_pid=11)
STARTING = replace(SERVE, state=State.STARTING)
SUSPENDED = replace(SERVE, state=State.SUSPENDED)
STOPPING = replace(SERVE, state=State.STOPPING)
BACKGROUND = replace(SERVE, spec=replace(SERVE.spec, priority=Priority.BACKGROUND))


class Watch:
    """Heartbeats of one process with 30 s of patience and calls that wait 120 s, a second at a time."""

    def __init__(self, process: Process, *, is_stopped: bool = False, timeout_s: float = 30.0) -> None:
        self.process = process
        self.at = 1_000.0
        self.heartbeats = Heartbeats(timeout_s, 120.0, lambda os_pid: is_stopped)

    def pass_by(self, seconds: int, *frames: Beat, tick_s: float = 1.0) -> list[ev.Event]:
        """What is decided while each of these seconds brings these frames."""
        events = []
        for _ in range(seconds):
            self.at += tick_s
            for frame in frames:
                self.heartbeats.hear(1, frame)
            for event in self.heartbeats.tick(self.at, tick_s, [self.process]):
                events.append(event)
                if isinstance(event, ev.Unresponsive):
                    self.process = replace(self.process, unresponsive_since=event.since)
                elif isinstance(event, ev.Responsive):
                    self.process = replace(self.process, unresponsive_since=None)
        return events


def kinds(events: list[ev.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_process_that_beats_is_left_alone():
    assert Watch(SERVE).pass_by(1_000, Beat()) == []


def test_a_silent_serve_process_is_noticed_first_and_ended_once():
    watch = Watch(SERVE)
    noticed, hung = watch.pass_by(100)
    assert (kinds([noticed, hung]), noticed.os_pid, hung.os_pid) == (["Unresponsive", "Hung"], 11, 11)
    assert hung.at - noticed.at == 30.0 - NOTICED_AFTER_S
    assert noticed.since == noticed.at - NOTICED_AFTER_S
    assert "not responded for 30 s" in hung.reason


def test_one_that_is_heard_again_is_as_if_nothing_had_been():
    watch = Watch(SERVE)
    assert kinds(watch.pass_by(20)) == ["Unresponsive"]
    assert kinds(watch.pass_by(1, Beat())) == ["Responsive"]
    assert kinds(watch.pass_by(20)) == ["Unresponsive"]


def test_one_that_a_signal_has_stopped_is_told_so():
    (_, hung) = Watch(SERVE, is_stopped=True).pass_by(60)
    assert "signal had stopped it" in hung.reason


@pytest.mark.parametrize("process", [SUSPENDED, replace(SERVE, os_pid=None), replace(SERVE, state=State.QUEUED)])
def test_a_process_that_cannot_beat_is_not_waited_for(process):
    assert Watch(process, is_stopped=True).pass_by(1_000) == []


@pytest.mark.parametrize("process", [TRAIN, STOPPING, BACKGROUND])
def test_of_others_it_is_said_only(process):
    assert kinds(Watch(process).pass_by(10_000)) == ["Unresponsive"]


def test_one_in_the_background_is_ended_only_if_a_signal_has_stopped_it():
    assert kinds(Watch(BACKGROUND, is_stopped=True).pass_by(60)) == ["Unresponsive", "Hung"]
    assert kinds(Watch(TRAIN, is_stopped=True).pass_by(60)) == ["Unresponsive"]


def test_one_that_loads_has_longer_unless_a_signal_has_stopped_it():
    watch = Watch(STARTING)
    assert kinds(watch.pass_by(int(30 * LOADING))) == ["Unresponsive"]
    assert kinds(watch.pass_by(5)) == ["Hung"]
    assert kinds(Watch(STARTING, is_stopped=True).pass_by(35)) == ["Unresponsive", "Hung"]


def test_one_that_was_suspended_is_not_blamed_for_that_time():
    watch = Watch(SERVE)
    watch.pass_by(4)
    watch.process = SUSPENDED
    watch.pass_by(100)
    watch.process = SERVE
    assert watch.pass_by(4) == []


def test_a_new_operating_system_process_starts_afresh():
    watch = Watch(SERVE)
    assert kinds(watch.pass_by(29)) == ["Unresponsive"]
    watch.process = replace(SERVE, os_pid=12)
    assert watch.pass_by(4) == []


def test_a_loop_that_stands_still_is_hung_though_its_process_beats():
    watch = Watch(SERVE)
    assert kinds(watch.pass_by(3, Beat(6.0, 6.0))) == ["Unresponsive"]
    assert kinds(watch.pass_by(1, Beat(0.0, 0.0))) == ["Responsive"]
    assert kinds(watch.pass_by(1, Beat(31.0, 31.0))) == ["Unresponsive", "Hung"]


def test_a_long_step_that_computes_goes_on_until_it_outlasts_every_call():
    watch = Watch(SERVE)
    assert watch.pass_by(1, Beat(149.0, 0.0)) == []
    (hung,) = watch.pass_by(1, Beat(150.0, 0.0))
    assert "longer than any call waits" in hung.reason
    assert Watch(STARTING).pass_by(1, Beat(5_000.0, 5_000.0)) == []
    assert Watch(TRAIN).pass_by(1, Beat(5_000.0, 5_000.0)) == []


@pytest.mark.parametrize("frame", [Ready(), Chunks(())])
def test_what_a_loop_says_proves_that_it_moved_on_since_its_last_beat(frame):
    watch = Watch(STARTING)
    watch.pass_by(1, Beat(400.0, 400.0))
    watch.process = SERVE
    assert watch.pass_by(1, frame) == []


def test_a_daemon_that_stood_still_or_slept_blames_nobody():
    watch = Watch(SERVE)
    watch.pass_by(4, Beat())
    assert watch.pass_by(1, tick_s=3_600.0) == []
    assert watch.pass_by(1) == []


def test_nobody_is_ended_where_the_setting_says_never():
    assert kinds(Watch(SERVE, is_stopped=True, timeout_s=0.0).pass_by(10_000, Beat(9e9, 9e9))) == ["Unresponsive"]


@given(st.lists(st.booleans(), max_size=200), st.sampled_from([SERVE, STARTING, TRAIN, BACKGROUND, STOPPING]))
def test_none_is_ended_that_was_heard_within_its_time_and_what_is_said_alternates(heard, process):
    watch, silent_s, said = Watch(process, timeout_s=10.0), 0, []
    for is_heard in heard:
        silent_s = 1 if is_heard else silent_s + 1  # it is heard before the second goes by
        events = kinds(watch.pass_by(1, *([Beat()] if is_heard else [])))
        assert "Hung" not in events or silent_s >= 10
        said += [kind for kind in events if kind != "Hung"]
    assert said == ["Unresponsive", "Responsive"] * (len(said) // 2) + ["Unresponsive"] * (len(said) % 2)
