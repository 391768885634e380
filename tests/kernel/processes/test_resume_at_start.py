"""A daemon that resumes at its start what the end of the earlier one has interrupted, and never what a user did."""

from __future__ import annotations

import pytest

from llmos.abi.device import Device, LeaseKind
from llmos.abi.process import Spec, State
from llmos.kernel import events as ev
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.programs.traits import Traits

CPU = Device("cpu0", "cpu", "a processor", memory_bytes=1000, cores=2)
TRAINING = Spec("train", {"name": "mood"}, need_bytes=1)
KILLED = -9


def training(parent: int | None = None) -> ProcessTable:
    """A table with a training, pid 1, at work since 2.0."""
    table = ProcessTable(memory_share=1.0, stop_grace_s=5.0)
    spec = Spec("train", {"name": "mood"}, need_bytes=1, parent=parent)
    for event in (
        ev.DevicesFound(0.0, (CPU,), "key"),
        ev.Submitted(1.0, 1, spec, {LeaseKind.WORKSPACE: 1}, Traits(is_resumable=True)),
        ev.Admitted(2.0, 1),
        ev.Forked(2.0, 1, 71, 2.0),
        ev.Ready(2.0, 1),
    ):
        table.apply(event)
    return table


def down(table: ProcessTable, code: int = 0) -> ProcessTable:
    """The table of the next daemon, after this one has ended in good order."""
    table.apply(ev.DownAsked(5.0))
    if table.process(1).os_pid is not None:
        table.apply(ev.ChildExited(6.0, 1, 71, code))
    return ProcessTable(table.snapshot(), memory_share=1.0)


def state(table: ProcessTable) -> State:
    return table.process(1).state


@pytest.mark.parametrize(("resumes", "then"), [(True, State.QUEUED), (False, State.INTERRUPTED)])
@pytest.mark.parametrize("code", [0, KILLED])
def test_a_training_that_went_down_with_the_daemon_goes_on_if_that_is_set(code: int, resumes: bool, then: State):
    again = down(training(), code)
    assert state(again) is State.INTERRUPTED
    again.apply(ev.DaemonStarted(9.0, resumes))
    assert (state(again), again.process(1).ended_at is None) == (then, resumes)
    assert again.ledger.leases() == ()


@pytest.mark.parametrize(("resumes", "then"), [(True, State.QUEUED), (False, State.INTERRUPTED)])
def test_a_training_whose_daemon_was_killed_goes_on_likewise(resumes: bool, then: State):
    table = training()
    table.apply(ev.DaemonStarted(9.0, resumes))
    assert state(table) is then


def test_what_a_user_stopped_waits_for_the_user():
    table = training()
    table.apply(ev.KillAsked(3.0, 1, False, "stopped by the user"))
    table.apply(ev.ChildExited(4.0, 1, 71, 0))
    again = down(table)
    again.apply(ev.DaemonStarted(9.0, True))
    assert state(again) is State.INTERRUPTED


def test_what_a_user_was_stopping_waits_for_the_user():
    table = training()
    table.apply(ev.KillAsked(3.0, 1, False, "stopped by the user"))
    table.apply(ev.DaemonStarted(9.0, True))
    assert state(table) is State.INTERRUPTED


@pytest.mark.parametrize("is_orderly", [True, False])
def test_what_a_user_suspended_waits_for_the_user(is_orderly: bool):
    table = training()
    table.apply(ev.SuspendAsked(3.0, 1))
    again = down(table) if is_orderly else table
    again.apply(ev.DaemonStarted(9.0, True))
    assert state(again) is State.INTERRUPTED


def test_a_process_that_another_started_is_resumed_by_that_one():
    again = down(training(parent=7))
    again.apply(ev.DaemonStarted(9.0, True))
    assert state(again) is not State.QUEUED


def test_a_failed_training_is_not_tried_again_by_itself():
    table = training()
    table.apply(ev.ChildExited(4.0, 1, 71, KILLED))
    again = down(table)
    again.apply(ev.DaemonStarted(9.0, True))
    assert state(again) is State.INTERRUPTED
