"""The loop: after which events it looks for what can be decided."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llmos.abi.device import Device, LeaseKind
from llmos.abi.process import Class, Process, Program, Spec, State, Usage
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.journal import Journal
from llmos.kernel.loop import Loop
from llmos.kernel.scheduler import View
from llmos.kernel.table import Table

SERVE = Spec(Program.SERVE, {"base": "tiny:1"}, klass=Class.INTERACTIVE, need_bytes=10)


class Ground:
    """A loop over a table with one serve process, pid 1, that is ready; it records its looks and effects."""

    def __init__(self, home: Path) -> None:
        self.table = Table(memory_share=1.0)
        self.looks = 0
        self.effects: list[do.Effect] = []
        self.loop = Loop(
            self.table,
            Journal(home / "journal.db"),
            perform=self.effects.append,
            applied=lambda event: None,
            view=self.view,
        )
        for event in (
            ev.DevicesFound(0.0, (Device("cpu0", "cpu", "", 1000),), ""),
            ev.Submitted(1.0, 1, SERVE, {LeaseKind.WEIGHTS: 10}),
            ev.Admitted(2.0, 1),
            ev.BecameReady(3.0, 1),
        ):
            self.table.apply(event)

    def view(self) -> View:
        self.looks += 1
        return self.table.view(10.0, [], 0.0)

    def take(self, *events: ev.Event) -> Process:
        """Let the loop take these, one after the other; returns how the process is then."""

        async def main() -> None:
            running = asyncio.ensure_future(self.loop.run())
            for event in events:
                await self.loop.ask(event)
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(main())
        return self.table.process(1)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_report_of_how_things_are_is_nothing_to_decide_on(ground):
    ground.take(*(ev.Metered(float(i), 1, Usage(cpu_s=i)) for i in range(20)))
    assert ground.looks == 0


def test_a_backoff_that_is_over_is_seen_at_once_however_much_children_report(ground):
    report = ev.Metered(5.0, 1, Usage())
    process = ground.take(ev.ChildExited(4.0, 1, 77, -9), report, ev.Rang(5.0, 1, 1, "restart"), report)
    assert process.state is State.STARTING
    assert do.Start(1) in ground.effects
