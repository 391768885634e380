"""The hands: what becomes of an effect when the world has moved on before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.call import Call
from llmos.abi.device import Device, LeaseKind
from llmos.abi.error import Corrupt
from llmos.abi.frame import Attach, ModelPath, ToChild
from llmos.abi.process import Priority, Spec
from llmos.config import Config
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.calls.call_queue import PendingCall
from llmos.kernel.calls.router import Router
from llmos.kernel.executor import Executor
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model

SERVE = Spec("serve", {"base": "tiny:1"}, priority=Priority.INTERACTIVE, need_bytes=10)


class Meddling(Store):
    """A store in which something happens each time after a model was looked up."""

    after: Callable[[], Any] = staticmethod(lambda: None)  # Any: nobody looks at it

    def located(self, ref: str, dtype: str | None = None) -> ModelPath:
        found = super().located(ref, dtype)
        self.after()
        return found


class Said:
    """A supervisor that only remembers what its children were told."""

    def __init__(self) -> None:
        self.frames: list[ToChild] = []

    def send(self, pid: int, frame: ToChild) -> None:
        self.frames.append(frame)


class Ground:
    """Hands over a ready serve process, pid 1, for which a call of mood:1 waits."""

    def __init__(self, home: Path) -> None:
        self.store = Meddling(home)
        add_base(self.store)
        add_model(self.store, "mood", "tiny:1", pid=901)
        self.table = ProcessTable(memory_share=1.0)
        for event in (
            ev.DevicesFound(0.0, (Device("cpu0", "cpu", "", 1000),), ""),
            ev.Submitted(1.0, 1, SERVE, {LeaseKind.WEIGHTS: 10}),
            ev.Admitted(2.0, 1),
            ev.Ready(3.0, 1),
            ev.AttachAsked(4.0, 1, "mood:1", LeaseKind.ADAPTERS, 8),
            ev.AttachGranted(4.0, 1, "mood:1"),
        ):
            self.table.apply(event)
        self.said = Said()
        self.posted: list[ev.Event] = []
        self.router = Router(self.said.send, lambda pid, model: None, lambda: 5.0, max_waiting_calls=9)
        self.router.serve(1, "tiny:1", "cpu0")
        self.router.became_ready(1)
        self.home = home

    def attach(self) -> PendingCall:
        """The call, after the hands have tried to bring its model."""

        async def main() -> PendingCall:
            hands = Executor(
                Config(self.home),
                self.table,
                self.store,
                self.said,  # type: ignore[arg-type]  # only what it is told matters here
                self.router,
                lambda process: pytest.fail("nothing is started here"),
                self.posted.append,
                lambda: 6.0,
            )
            opened = self.router.open(1, Call(7, "mood:1", "classify", ("x",)))
            hands.perform(do.Attach(1, "mood:1", 1))
            await hands.close()
            return opened

        return asyncio.run(main())


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_model_that_comes_is_told_to_its_process_and_its_calls_follow(ground: Ground) -> None:
    assert ground.attach().is_sent
    assert isinstance(ground.said.frames[0], Attach)


def test_a_model_that_is_removed_while_it_is_brought_never_gets_there(ground: Ground) -> None:
    ground.store.after = lambda: ground.store.remove("mood:1")
    (chunk,) = ground.attach().chunks
    assert chunk.fault is not None
    assert chunk.fault.code == "model_not_found"
    assert ground.said.frames == []
    assert ground.posted == [ev.Detached(6.0, 1, "mood:1")]


def test_a_new_version_under_a_removed_ones_number_is_not_answered_by_old_weights(ground: Ground) -> None:
    def replaced() -> None:
        ground.store.remove("mood:1")
        assert add_model(Store(ground.home), "mood", "tiny:1", pid=902).ref == "mood:1"

    ground.store.after = replaced
    assert not ground.attach().is_sent
    assert ground.said.frames == []


def test_what_was_brought_to_a_process_that_died_meanwhile_fails_none_of_its_calls(ground: Ground) -> None:
    def died() -> None:
        ground.table.apply(ev.ChildExited(5.0, 1, 77, -9))
        ground.router.lost(1)
        raise Corrupt("damaged, but of no process that lives")

    ground.store.after = died
    assert list(ground.attach().chunks) == []
    assert (ground.said.frames, ground.posted) == ([], [])
