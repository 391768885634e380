"""What the end of a trial's process means for its search, and how a search waits for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmos.abi.error import Conflict, Fault
from llmos.abi.frame import Act, ChildChanged, FromChild, Replied, Requested, Stop
from llmos.abi.process import PAUSED, Process, Progress, Spec, State
from llmos.programs.channel import Stopped
from llmos.programs.children import Children
from llmos.programs.trial_outcome import outcomes_of
from llmos.testing.daemon import FakeDaemon, beside
from llmos.tuning.history import Dropped, Reached, VersionMade

FIGURES = {"rung": 1.0, "metric_3": 0.875, "metric": 0.875, "seconds": 12.0, "trained_s": 9.0}
PAUSE = Progress(PAUSED, 0.25, 1.0, "runs", FIGURES, "waits")
TRIAL = Process(5, Spec("trial", parent=1), State.INTERRUPTED, exit_code=0, progress=PAUSE)


def test_a_pause_at_the_rung_is_its_result():
    assert outcomes_of(TRIAL, [3], 1, is_last=False) == [Reached(3, 1, 0.875, 12.0, 9.0)]


@pytest.mark.parametrize("process", [replace(TRIAL, exit_code=-9), replace(TRIAL, exit_code=None)])
def test_a_trial_that_was_interrupted_before_its_rung_is_resumed(process):
    assert outcomes_of(process, [3], 2, is_last=False) == []


def test_each_of_several_trials_has_its_own_metric_and_an_equal_part_of_the_time():
    figures = {"rung": 1.0, "metric_3": 0.5, "failed_4": 1.0, "metric_5": 0.75, "seconds": 12.0, "trained_s": 9.0}
    paused = replace(TRIAL, progress=replace(PAUSE, figures=figures))
    found = outcomes_of(paused, [3, 4, 5], 1, is_last=False)
    assert found[::2] == [Reached(3, 1, 0.5, 4.0, 3.0), Reached(5, 1, 0.75, 4.0, 3.0)]
    assert isinstance(found[1], Dropped)
    assert (found[1].trial, found[1].word, found[1].seconds) == (4, "failed", 4.0)


def test_figures_about_other_trials_of_the_process_say_nothing():
    figures = {"rung": 1.0, "metric_3": 0.5, "seconds": 12.0, "trained_s": 9.0}
    killed = replace(TRIAL, exit_code=-9, progress=replace(PAUSE, figures=figures))
    assert outcomes_of(killed, [3, 5], 1, is_last=False) == []
    assert outcomes_of(killed, [5], 1, is_last=False) == []


def test_a_trial_that_somebody_ended_is_left_alone():
    assert outcomes_of(TRIAL, [3], 2, is_last=False) == [Dropped(3, "stopped", "")]
    gone = replace(TRIAL, state=State.EXITED, reason="stopped by the user")
    assert outcomes_of(gone, [3], 2, is_last=False) == [Dropped(3, "stopped", "stopped by the user")]


def test_a_trial_that_failed_says_why():
    failed = replace(TRIAL, state=State.EXITED, exit_code=1, fault=Fault("bad_setting", "it diverged"))
    assert outcomes_of(failed, [3], 2, is_last=False) == [Dropped(3, "failed", "it diverged")]


def test_the_winner_is_what_was_made_and_not_its_dataset():
    made = replace(TRIAL, state=State.EXITED, made=("mood@1", "mood:2"), progress=Progress("done", message="fine"))
    assert outcomes_of(made, [3], 3, is_last=True) == [VersionMade(3, "mood:2", "fine")]


def test_a_trial_at_work_has_no_outcome():
    assert outcomes_of(replace(TRIAL, state=State.READY), [3], 1, is_last=False) == []


def answering(reply):
    """A daemon that replies to every request, and the children's end of it."""
    daemons: list[FakeDaemon] = []

    def on_frame(frame: FromChild) -> None:
        if isinstance(frame, Requested):
            for one in reply(frame):
                daemons[0].send(one)

    daemon, channel, close = beside(on_frame)
    daemons.append(daemon)
    return daemon, Children(channel), close


def test_a_program_waits_for_its_child_and_sees_its_changes():
    started = replace(TRIAL, state=State.QUEUED, progress=None)

    def reply(asked: Requested):
        assert (asked.act, asked.program, asked.args) == (Act.SUBMIT, "trial", {"number": 0})
        changes = [replace(started, state=State.READY), TRIAL]
        return [Replied(asked.request_id, (started,)), *map(ChildChanged, changes)]

    _, children, close = answering(reply)
    seen: list[State] = []
    process = children.submit("trial", {"number": 0})
    assert children.wait(process.pid, lambda one: seen.append(one.state)) == TRIAL
    assert seen == [State.READY, State.INTERRUPTED]
    close()


def test_a_refused_request_raises_what_the_kernel_said():
    fault = Fault(Conflict.code, "not now", {"pid": 5})
    _, children, close = answering(lambda asked: [Replied(asked.request_id, fault=fault)])
    with pytest.raises(Conflict):
        children.resume(5, {"rung": 1})
    close()


def test_a_program_that_is_stopped_waits_no_more():
    _, children, close = answering(
        lambda asked: [Replied(asked.request_id, (replace(TRIAL, state=State.READY),)), Stop("down")]
    )
    with pytest.raises(Stopped):
        children.wait(next(iter(children.list())))
    close()


def test_what_was_started_in_an_earlier_life_is_known_again():
    _, children, close = answering(lambda asked: [Replied(asked.request_id, (TRIAL,))])
    assert children.list() == {5: TRIAL}
    assert children.wait(5) == TRIAL
    close()
