"""Processes that a process has started: they are interrupted, suspended and ended with it."""

from __future__ import annotations

import signal

import pytest

from llmos.abi.device import Device, LeaseKind
from llmos.abi.process import DONE, PAUSED, WAITING, Priority, Progress, Spec, State
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.processes.process_table import ProcessTable

CPU = Device("cpu0", "cpu", "a processor", memory_bytes=1000, cores=2)
TUNE = Spec("tune", {"name": "mood"}, priority=Priority.BACKGROUND, need_bytes=1)
TRIAL = Spec("trial", {"rung": 0, "number": 0}, priority=Priority.BACKGROUND, need_bytes=1, parent=1)


def family(*states: State) -> ProcessTable:
    """A ready search, pid 1, and its trials from pid 2 on in these states."""
    table = ProcessTable(memory_share=1.0, stop_grace_s=5.0)
    table.apply(ev.DevicesFound(0.0, (CPU,), "key"))
    for pid, (spec, state) in enumerate([(TUNE, State.READY), *((TRIAL, state) for state in states)], 1):
        table.apply(ev.Submitted(1.0, pid, spec, {LeaseKind.WORKSPACE: 1}))
        if state is State.QUEUED:
            continue
        for event in (ev.Admitted(2.0, pid), ev.Forked(3.0, pid, 70 + pid, 2.5), ev.Ready(4.0, pid)):
            table.apply(event)
        if state is State.INTERRUPTED:
            pause(table, pid)
        assert table.process(pid).state is state
    return table


def pause(table: ProcessTable, pid: int) -> None:
    table.apply(ev.Report(5.0, pid, Progress(PAUSED, 0.25, 1.0, "runs", {"rung": 0.0}, "waits at rung 1 of 2")))
    table.apply(ev.ChildExited(6.0, pid, 70 + pid, 0))


def states(table: ProcessTable) -> list[State]:
    return [process.state for process in table.processes.values()]


def test_a_process_that_pauses_says_why_and_is_resumed_with_other_arguments():
    table = family(State.INTERRUPTED)
    process = table.process(2)
    assert process.reason == "waits at rung 1 of 2"
    assert table.apply(ev.ResumeAsked(7.0, 2, {"rung": 1})) == []
    assert table.process(2).state is State.QUEUED
    assert table.process(2).spec.args == {"rung": 1, "number": 0}
    assert TRIAL.args["rung"] == 0


def test_what_is_to_go_on_shows_how_far_it_was_and_nothing_of_what_it_found():
    table = family(State.INTERRUPTED)
    table.apply(ev.ResumeAsked(7.0, 2, {"rung": 1}, "trial 3 of classify mood"))
    assert table.process(2).progress == Progress(WAITING, 0.25, 1.0, "runs")
    assert table.process(2).spec.title == "trial 3 of classify mood"
    table.apply(ev.Admitted(8.0, 2))
    table.apply(ev.Forked(9.0, 2, 80, 8.5))
    table.apply(ev.ChildExited(10.0, 2, 80, -9))
    assert table.process(2).state is State.INTERRUPTED
    assert table.process(2).progress == Progress(WAITING, 0.25, 1.0, "runs")


def test_a_pause_is_remembered_by_the_journal_and_progress_is_not():
    assert ev.Report(0.0, 1, Progress(PAUSED)).durability is ev.Durability.WRITTEN
    assert ev.Report(0.0, 1, Progress("train")).durability is ev.Durability.NONE


def test_a_search_that_is_stopped_stops_its_trial_and_no_checkpoint_is_lost():
    table = family(State.READY, State.QUEUED, State.INTERRUPTED)
    effects = table.apply(ev.KillAsked(9.0, 1))
    assert states(table) == [State.STOPPING, State.STOPPING, State.INTERRUPTED, State.INTERRUPTED]
    assert [effect.pid for effect in effects if isinstance(effect, do.Stop)] == [1, 2]
    assert not [effect for effect in effects if isinstance(effect, do.Clean)]


def test_a_search_that_is_given_up_takes_its_trials_along():
    table = family(State.INTERRUPTED, State.INTERRUPTED)
    table.apply(ev.KillAsked(9.0, 1))
    table.apply(ev.ChildExited(10.0, 1, 71, 0))
    assert states(table) == [State.INTERRUPTED] * 3
    effects = table.apply(ev.KillAsked(11.0, 1))
    assert states(table) == [State.EXITED] * 3
    assert sorted(effect.pid for effect in effects if isinstance(effect, do.Clean)) == [1, 2, 3]


def test_a_search_that_is_done_ends_those_that_wait_and_stops_one_that_runs():
    table = family(State.INTERRUPTED, State.READY)
    table.apply(ev.Report(9.0, 1, Progress(DONE, 1, 1)))
    table.apply(ev.ChildExited(10.0, 1, 71, 0))
    assert states(table) == [State.EXITED, State.EXITED, State.STOPPING]
    table.apply(ev.ChildExited(11.0, 3, 73, 0))
    assert table.process(3).state is State.EXITED


def test_a_search_that_is_killed_from_outside_leaves_its_trial_at_work():
    table = family(State.READY)
    table.apply(ev.ChildExited(9.0, 1, 71, -9))
    assert states(table) == [State.INTERRUPTED, State.READY]


def test_a_search_is_suspended_and_resumed_with_its_trial():
    table = family(State.READY, State.INTERRUPTED)
    assert table.apply(ev.SuspendAsked(9.0, 1)) == [do.Signal(1, signal.SIGSTOP), do.Signal(2, signal.SIGSTOP)]
    assert states(table) == [State.SUSPENDED, State.SUSPENDED, State.INTERRUPTED]
    assert table.apply(ev.ResumeAsked(10.0, 1)) == [do.Signal(1, signal.SIGCONT), do.Signal(2, signal.SIGCONT)]
    assert states(table) == [State.READY, State.READY, State.INTERRUPTED]


@pytest.mark.parametrize("state", [State.READY, State.INTERRUPTED])
def test_the_daemon_s_end_interrupts_the_whole_family(state):
    table = family(state)
    table.apply(ev.DaemonStarted(20.0))
    assert states(table) == [State.INTERRUPTED, State.INTERRUPTED]
