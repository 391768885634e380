"""The loop: after which events it looks for what can be decided."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llmos.abi.device import Device, LeaseKind
from llmos.abi.error import DiskFull, Unavailable
from llmos.abi.process import Priority, Process, Progress, Spec, State, Usage
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.journal import Journal
from llmos.kernel.loop import Loop, replay
from llmos.kernel.processes.process_runtime import Snapshot
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.processes.scheduler import View, view_of

SERVE = Spec("serve", {"base": "tiny:1"}, priority=Priority.INTERACTIVE, need_bytes=10)


class Paper(Journal):
    """A journal whose disk the test fills and frees."""

    is_full = False
    full_at = 0.0  # at this time of events only

    def append(self, event: ev.Event) -> None:
        if self.is_full or event.at == self.full_at:
            raise DiskFull("The disk is full")
        super().append(event)

    def compact(self, snapshot: Snapshot) -> None:
        if self.is_full:
            raise DiskFull("The disk is full")
        super().compact(snapshot)


class Ground:
    """A loop over a table with one serve process, pid 1, that is ready; it records its looks and effects."""

    def __init__(self, home: Path) -> None:
        self.table = ProcessTable(memory_share=1.0)
        self.journal = Paper(home / "journal.db")
        self.looks = 0
        self.effects: list[do.Effect] = []
        self.loop = Loop(
            self.table,
            self.journal,
            perform=self.effects.append,
            applied=lambda event: None,
            view=self.view,
            schedule_every_s=3600.0,
        )
        for event in (
            ev.DevicesFound(0.0, (Device("cpu0", "cpu", "", 1000),), ""),
            ev.Submitted(1.0, 1, SERVE, {LeaseKind.WEIGHTS: 10}),
            ev.Admitted(2.0, 1),
            ev.Ready(3.0, 1),
        ):
            self.table.apply(event)

    def view(self) -> View:
        self.looks += 1
        return view_of(self.table, 10.0, [], 0.0)

    def take(self, *events: ev.Event) -> Process:
        """Let the loop take these, one after the other; returns how the process is then."""
        assert self.refused(*events) == []
        return self.table.process(1)

    def refused(self, *events: ev.Event) -> list[ev.Event]:
        """Let the loop take these, one after the other; returns those that whoever asked was refused."""
        refused = []

        async def main() -> None:
            running = asyncio.ensure_future(self.loop.run())
            for event in events:
                try:
                    await self.loop.ask(event)
                except DiskFull:
                    refused.append(event)
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(main())
        return refused


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_report_of_how_things_are_is_nothing_to_decide_on(ground):
    ground.take(*(ev.UsageReport(float(i), 1, Usage(cpu_s=i)) for i in range(20)))
    assert ground.looks == 0


def test_a_backoff_that_is_over_is_seen_at_once_however_much_children_report(ground):
    report = ev.UsageReport(5.0, 1, Usage())
    process = ground.take(ev.ChildExited(4.0, 1, 77, -9), report, ev.TimerFired(5.0, 1, 1, "restart"), report)
    assert process.state is State.STARTING
    assert do.Start(1) in ground.effects


def test_what_a_process_used_and_how_far_it_was_is_written_with_its_end(ground):
    usage, progress = Usage(cpu_s=9.0, rss_bytes=700), Progress("train", 3, 4)
    ground.take(
        ev.KillAsked(4.0, 1),
        ev.UsageReport(5.0, 1, usage),
        ev.Report(5.0, 1, progress),
        ev.ChildExited(6.0, 1, 77, 0),
    )
    again = ProcessTable(memory_share=1.0)
    for event in (
        ev.DevicesFound(0.0, (Device("cpu0", "cpu", "", 1000),), ""),
        ev.Submitted(1.0, 1, SERVE, {LeaseKind.WEIGHTS: 10}),
        ev.Admitted(2.0, 1),
        ev.Ready(3.0, 1),
    ):
        again.apply(event)
    replay(ground.journal, again)
    assert (again.process(1).usage, again.process(1).progress) == (usage, progress)


def test_a_full_disk_refuses_what_is_new_and_stops_nobody_from_ending_what_runs(ground):
    ground.journal.is_full = True
    facts = (ev.KillAsked(5.0, 1), ev.DaemonStarted(6.0), ev.DevicesFound(6.0, (), ""), ev.DownAsked(6.0))
    assert ground.refused(ev.SuspendAsked(4.0, 1), *facts) == [ev.SuspendAsked(4.0, 1)]
    assert ground.table.is_down
    assert do.Stop(1, "stopped by the user") in ground.effects


def test_what_a_full_disk_kept_out_of_the_journal_is_in_it_before_what_comes_next(tmp_path):
    ground = Ground(tmp_path)
    full = [ev.KillAsked(5.0, 1), ev.NiceAsked(5.0, 1, Priority.BATCH)]
    ground.journal.full_at = 5.0
    assert ground.refused(ev.NiceAsked(4.0, 1, Priority.BATCH), *full, ev.ChildExited(6.0, 1, 77, 0)) == full[1:]
    again = ProcessTable(ground.journal.snapshot())
    replay(ground.journal, again)
    assert again.process(1) == ground.table.process(1)
    assert again.process(1).state is State.EXITED


def test_who_asks_a_loop_that_has_ended_hears_so_at_once(tmp_path):
    ground = Ground(tmp_path)

    async def main() -> None:
        running = asyncio.ensure_future(ground.loop.run())
        await ground.loop.ask(ev.DownAsked(4.0))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(Unavailable):
            await ground.loop.ask(ev.KillAsked(5.0, 1))

    asyncio.run(main())
