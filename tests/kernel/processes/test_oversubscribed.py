"""More models in use than fit: each has its time, none waits for ever, and no byte is leased twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.call import Call, Chunk
from llmos.abi.device import Device, LeaseKind
from llmos.abi.process import Spec
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.calls.call_queue import PendingCall
from llmos.kernel.calls.router import Router
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.processes.scheduler import schedule, view_of
from llmos.kernel.processes.turns import STAYS_S
from llmos.testing.clock import Clock

BASE, BASE_BYTES = "tiny:1", 100
TICK_S = 0.25


class Box:
    """A table and a network over one serve process, and a child that answers in the next tick."""

    def __init__(self, room_bytes: int, sizes: dict[str, int]) -> None:
        self.clock = Clock()
        self.sizes = sizes
        self.table = ProcessTable(memory_share=1.0)
        device = Device("cpu0", "cpu", "a processor", memory_bytes=BASE_BYTES + room_bytes, cores=1)
        self.events: list[ev.Event] = []
        self.calls: dict[int, PendingCall] = {}
        self.waits: list[float] = []
        self.router = Router(lambda pid, frame: None, self._asked, self.clock, max_waiting_calls=1000)
        for event in (
            ev.DevicesFound(0.0, (device,), "key"),
            ev.Submitted(1.0, 1, Spec("serve", {"base": BASE}, need_bytes=BASE_BYTES), {LeaseKind.WEIGHTS: 100}),
            ev.Admitted(2.0, 1),
            ev.Forked(3.0, 1, os_pid=77, born_at=2.5),
            ev.Ready(4.0, 1),
        ):
            self.table.apply(event)
        self.router.serve(1, BASE, "cpu0")
        self.router.became_ready(1)

    def _asked(self, pid: int, model: str) -> None:
        self.events.append(ev.AttachAsked(self.clock(), pid, model, LeaseKind.ADAPTERS, self.sizes[model]))

    def open(self, model: str) -> None:
        call = Call(len(self.waits) + len(self.calls) + 1, model, "embed", ("x",))
        self.calls[call.call_id] = self.router.open(1, call)

    def tick(self) -> list[PendingCall]:
        """The loop takes its events and decides; what is in hand is answered."""
        in_hand = [one for one in self.calls.values() if one.is_sent]
        self.router.answered([Chunk(one.call.call_id) for one in in_hand])
        answered = [one for one in self.calls.values() if one.chunks]
        for one in answered:
            assert one.chunks[0].fault is None
            self.waits.append(self.clock() - one.since)
            del self.calls[one.call.call_id]
        self._take()
        self.router.make_room()
        view = view_of(self.table, self.clock(), self.router.rests(), 0.0, self.router.wanted_models())
        self.events += schedule(view)
        self._take()
        self.table.ledger.audit([1])
        assert self.table.ledger.free("cpu0") >= 0
        self.clock.move(TICK_S)
        return answered

    def _take(self) -> None:
        while self.events:
            for effect in self.table.apply(self.events.pop(0)):
                match effect:
                    case do.Attach(pid, model):
                        self.events.append(ev.Attached(self.clock(), pid, model, 0.1))
                        self.router.attached_to(pid, model)
                    case do.Detach(pid, model):
                        self.router.detach(pid, model)
                        self.events.append(ev.Detached(self.clock(), pid, model))
                    case do.Refuse(pid, model, fault):
                        self.router.attach_failed(pid, model, fault)


@pytest.mark.parametrize(("models", "fit"), [(2, 1), (10, 3), (30, 3), (4, 4)])
def test_models_that_are_asked_without_end_take_turns_within_a_bound(models, fit):
    sizes = {f"m{i}:1": 10 for i in range(models)}
    box = Box(10 * fit, sizes)
    for model in sizes:
        box.open(model)
    for _ in range(800):
        for one in box.tick():
            box.open(one.call.model)
    longest = max([*box.waits, *(box.clock() - one.since for one in box.calls.values())])
    assert longest <= models * (STAYS_S + 4 * TICK_S) if models > fit else longest <= 4 * TICK_S
    per_stay = len(box.waits) / (800 * TICK_S) * STAYS_S
    assert per_stay >= 2, "each model answers more than one call while it stays"


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from([f"m{i}:1" for i in range(8)]), st.integers(1, 30), min_size=1),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 6)), max_size=40),
)
def test_every_call_is_answered_in_the_end_whatever_the_sizes(sizes, arrivals):
    box = Box(30, sizes)
    names = sorted(sizes)
    for number, ticks in arrivals:
        box.open(names[number % len(names)])
        for _ in range(ticks):
            box.tick()
    for _ in range(200 * len(sizes)):
        if not box.calls:
            break
        box.tick()
    assert box.calls == {}
