"""Programs whose processes go on by themselves: after a crash, after the daemon ends, never against a user."""

from __future__ import annotations

import pytest

from llmos.abi.device import Device, LeaseKind
from llmos.abi.error import Fault
from llmos.abi.process import Spec, State
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.processes.child_events import CONTINUATIONS, HEALTHY_AFTER_S
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.programs.traits import Traits

CPU = Device("cpu0", "cpu", "a processor", memory_bytes=1000, cores=2)
BATCH = Spec("batch", {"batch": "batch_1"}, need_bytes=1)
KILLED = -9


def ready() -> ProcessTable:
    """A table with one process of such a program, pid 1, at work since 4.0."""
    table = ProcessTable(memory_share=1.0, stop_grace_s=5.0)
    table.apply(ev.DevicesFound(0.0, (CPU,), "key"))
    table.apply(ev.Submitted(1.0, 1, BATCH, {LeaseKind.WORKSPACE: 1}, Traits(is_resumable=True, continues=True)))
    work(table)
    return table


def work(table: ProcessTable, at: float = 2.0) -> None:
    for event in (ev.Admitted(at, 1), ev.Forked(at, 1, 71, at), ev.Ready(at, 1)):
        table.apply(event)


def state(table: ProcessTable) -> State:
    return table.process(1).state


def test_a_killed_process_is_queued_again_from_its_scratch_folder():
    table = ready()
    (timer,) = table.apply(ev.ChildExited(5.0, 1, 71, KILLED))
    assert isinstance(timer, do.SetTimer)
    assert (state(table), table.process(1).restarts) == (State.QUEUED, 1)
    assert table.ledger.leases() == ()
    table.apply(ev.TimerFired(6.0, 1, timer.life, timer.step))
    work(table)
    assert state(table) is State.READY


def test_one_that_dies_at_once_again_and_again_waits_for_a_user():
    table = ready()
    for _ in range(CONTINUATIONS):
        table.apply(ev.ChildExited(5.0, 1, 71, KILLED))
        assert state(table) is State.QUEUED
        work(table)
    table.apply(ev.ChildExited(5.0, 1, 71, KILLED))
    assert state(table) is State.INTERRUPTED


def test_crashes_that_are_far_apart_are_not_counted_together():
    table = ready()
    for _ in range(3 * CONTINUATIONS):
        table.apply(ev.ChildExited(3.0 + HEALTHY_AFTER_S, 1, 71, KILLED))
        assert state(table) is State.QUEUED
        work(table)


@pytest.mark.parametrize("code", ["bad_input", "not_found"])
def test_a_fault_of_its_input_is_its_end(code: str):
    table = ready()
    table.apply(ev.Failed(5.0, 1, Fault(code, "no")))
    table.apply(ev.ChildExited(5.0, 1, 71, 1))
    assert state(table) is State.EXITED


def test_the_end_of_its_work_is_its_end():
    table = ready()
    table.apply(ev.ChildExited(5.0, 1, 71, 0))
    assert state(table) is State.EXITED


@pytest.mark.parametrize("is_forced", [True, False])
def test_a_process_that_a_user_stops_waits_for_the_user(is_forced: bool):
    table = ready()
    table.apply(ev.KillAsked(5.0, 1, is_forced, "stopped by the user"))
    table.apply(ev.ChildExited(5.0, 1, 71, KILLED if is_forced else 0))
    assert state(table) is State.INTERRUPTED
    table.apply(ev.DaemonStarted(9.0))
    assert state(table) is State.INTERRUPTED


def test_it_goes_on_after_a_crash_of_the_daemon():
    table = ready()
    (orphan,) = table.apply(ev.DaemonStarted(9.0))
    assert isinstance(orphan, do.KillOrphan)
    assert state(table) is State.QUEUED
    assert table.ledger.leases() == ()


def test_it_goes_on_when_the_daemon_is_up_again():
    table = ready()
    table.apply(ev.DownAsked(5.0))
    table.apply(ev.ChildExited(6.0, 1, 71, 0))
    assert state(table) is State.QUEUED
    again = ProcessTable(table.snapshot(), memory_share=1.0)
    again.apply(ev.DaemonStarted(9.0))
    assert state(again) is State.QUEUED


def test_a_suspended_one_does_not_go_on_by_itself():
    table = ready()
    table.apply(ev.SuspendAsked(5.0, 1))
    table.apply(ev.DaemonStarted(9.0))
    assert state(table) is State.INTERRUPTED
