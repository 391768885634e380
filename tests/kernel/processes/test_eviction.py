"""What gives way when memory is short: the cheapest first, nothing that a call needs, and every byte accounted for."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.call import Call, Chunk
from llmos.abi.device import Device, LeaseKind
from llmos.abi.frame import Ask, Cancel, Detach, ToChild
from llmos.abi.process import Priority, Spec, State
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.calls.call_queue import HALF_LIFE_S, PATIENCE_S, PendingCall, RecentUse
from llmos.kernel.calls.router import Router
from llmos.kernel.processes.eviction import EvictionCandidate, cheapest
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.processes.scheduler import AttachRequest, View, crowd_of, schedule, view_of
from llmos.kernel.processes.turns import BASE_STAYS_S, BASE_WAITS_S, DRAINS_S
from llmos.testing.clock import Clock

IDLE = st.builds(
    EvictionCandidate,
    st.integers(1, 9),
    st.floats(0, 100),
    st.integers(0, 50),
    reload_s=st.floats(0, 10),
    use=st.floats(0, 10),
)


def request(size_bytes: int, pid: int = 1) -> AttachRequest:
    return AttachRequest(pid, "new:1", LeaseKind.ADAPTERS, size_bytes)


def decided(
    wished: AttachRequest, *idle: EvictionCandidate, free: int = 0, leaving: int = 0, in_use: int = 0
) -> list[ev.Event]:
    return schedule(
        View(50.0, [], [], {"cpu0": free}, {"cpu0": leaving}, idle, [wished], in_use_bytes={"cpu0": in_use})
    )


def test_use_counts_half_after_each_half_life():
    use = RecentUse()
    use.count(0.0)
    use.count(HALF_LIFE_S)
    assert use.of_late(HALF_LIFE_S) == 1.5
    assert use.of_late(2 * HALF_LIFE_S) == 0.75


def test_what_costs_least_to_bring_back_goes_first():
    hot = EvictionCandidate(1, 0.0, 10, "hot:1", reload_s=1.0, use=9.0)
    slow = EvictionCandidate(1, 0.0, 10, "slow:1", reload_s=9.0, use=1.0)
    cold = EvictionCandidate(1, 9.0, 10, "cold:1", reload_s=1.0, use=1.0)
    big = EvictionCandidate(1, 9.0, 100, "big:1", reload_s=1.0, use=1.0)
    assert cheapest(5, [hot, slow, cold, big]) == [big]
    assert cheapest(5, [hot, slow, cold]) == [cold]
    assert cheapest(25, [hot, slow, cold]) == [cold, hot, slow]


def test_among_equals_the_longest_unused_goes_first():
    assert cheapest(3, [EvictionCandidate(1, 20.0, 4), EvictionCandidate(2, 10.0, 4)]) == [
        EvictionCandidate(2, 10.0, 4)
    ]


@given(st.integers(-10, 200), st.lists(IDLE, max_size=6), st.lists(IDLE, max_size=6))
def test_the_cheapest_are_enough_and_none_of_them_is_needless(need, first, second):
    chosen = cheapest(need, first, second)
    total = sum(one.held_bytes for one in chosen)
    if sum(one.held_bytes for one in (*first, *second)) < need or need <= 0:
        assert chosen == []
    else:
        assert total >= need
        assert all(total - one.held_bytes < need for one in chosen)


def test_a_model_that_fits_comes_and_one_that_never_can_is_refused_with_numbers():
    assert decided(request(5), free=5) == [ev.AttachGranted(50.0, 1, "new:1")]
    (refused,) = decided(
        request(50), EvictionCandidate(2, 0.0, 10), EvictionCandidate(1, 0.0, 10, "old:1"), free=5, leaving=3, in_use=12
    )
    assert isinstance(refused, ev.AttachRefused)
    assert refused.fault.code == "no_room"
    assert refused.fault.detail == {"device": "cpu0", "need_bytes": 50, "free_bytes": 40}


def test_a_model_waits_for_others_in_use_and_none_is_evicted_in_vain():
    assert (
        decided(
            request(50),
            EvictionCandidate(2, 0.0, 10),
            EvictionCandidate(1, 0.0, 10, "old:1"),
            free=5,
            leaving=3,
            in_use=22,
        )
        == []
    )


def test_its_own_process_s_models_give_way_before_another_process_does():
    own, other = EvictionCandidate(1, 40.0, 10, "old:1", reload_s=9.0, use=9.0), EvictionCandidate(2, 0.0, 10)
    assert decided(request(8), own, other) == [ev.Displaced(50.0, 1, "old:1", "room for new:1")]
    assert decided(request(15), own, other) == [
        ev.Displaced(50.0, 1, "old:1", "room for new:1"),
        ev.Evicted(50.0, 2, "room for new:1"),
    ]


def test_nothing_gives_way_for_bytes_that_are_coming_free_anyway():
    assert decided(request(8), EvictionCandidate(1, 0.0, 10, "old:1"), leaving=8) == []


def test_what_is_idle_on_another_device_does_not_help():
    (refused,) = decided(request(8), EvictionCandidate(2, 0.0, 10, device="cuda0"))
    assert isinstance(refused, ev.AttachRefused)


def test_a_model_nobody_waits_for_any_more_displaces_nobody():
    (refused,) = decided(replace(request(8), is_wanted=False), EvictionCandidate(1, 0.0, 10, "old:1"))
    assert isinstance(refused, ev.AttachRefused)
    assert refused.fault.code == "cancelled"


# The table, the network and the scheduler together, with children that a test plays.

CAPACITY = 100
NEED = 12  # of a serve process, with its base
BASES = ("red:1", "blue:1")
MODELS = {"red-a:1": 20, "red-b:1": 30, "red-c:1": 45, "red-d:1": 80, "red-e:1": 90, "blue-a:1": 20, "blue-c:1": 45}


@dataclass
class Child:
    """What a serve process has been told, in order, and what it has done of it."""

    pid: int
    need: int = NEED
    inbox: deque[ToChild | do.Attach] = field(default_factory=deque)
    models: set[str] = field(default_factory=set)
    hand: dict[int, str] = field(default_factory=dict)
    is_stopping: bool = False

    @property
    def size_bytes(self) -> int:
        return self.need + sum(MODELS[model] for model in self.models)


class World:
    """One device; every decision is acted upon at once, as the loop does."""

    def __init__(self, need: int = NEED) -> None:
        self.need = need
        self.idle_timeout_s = 0.0
        self.clock = Clock()
        self.table = ProcessTable(memory_share=1.0)
        self.router = Router(self.sent, self.wished, self.clock, max_waiting_calls=1000)
        self.children: dict[int, Child] = {}
        self.starting: set[int] = set()
        self.calls: list[PendingCall] = []
        self.ids = count(1)
        self.pids = count(1)
        self.apply(ev.DevicesFound(0.0, (Device("cpu0", "cpu", "", CAPACITY),), "key"))

    def apply(self, event: ev.Event) -> None:
        effects = self.table.apply(event)
        if isinstance(event, ev.Submitted) and event.spec.program == "serve":
            self.router.serve(event.pid, event.spec.args["base"], "cpu0")
        if isinstance(event, ev.ChildExited):
            self.router.lost(event.pid)
        if isinstance(event, ev.Evicted) and self.table.runtimes[event.pid].is_returning:
            assert not [one for one in self.calls if one.pid == event.pid and one.is_sent], "a call in hand was cut off"
            self.router.restarting(event.pid)
        for effect in effects:
            self.perform(effect)

    def post(self, event: ev.Event) -> None:
        self.apply(event)
        self.look()

    def look(self) -> None:
        self.router.make_room(crowd_of(self.table))
        rests, wanted, forsaken = self.router.rests(), self.router.wanted_models(), self.router.forsaken()
        view = view_of(self.table, self.clock(), rests, self.idle_timeout_s, wanted, self.clock(), forsaken)
        for event in schedule(view):
            self.apply(event)
        self.check()

    def perform(self, effect: do.Effect) -> None:
        match effect:
            case do.Start(pid):
                self.starting.add(pid)
            case do.Stop(pid):
                if pid in self.children:
                    self.children[pid].is_stopping = True
            case do.Attach(pid, model):
                self.children[pid].inbox.append(effect)
                self.router.attached_to(pid, model)
            case do.Detach(pid, model):
                in_hand = [one for one in self.calls if one.pid == pid and one.is_sent]
                assert all(one.call.model != model for one in in_hand)
                self.router.detach(pid, model)
            case do.Refuse(pid, model, fault):
                self.router.attach_failed(pid, model, fault)
            case do.ReleaseCalls(pid):
                self.router.became_ready(pid)
            case do.FailCalls(pid, fault):
                assert fault is not None
                self.router.closed(pid, fault)

    def sent(self, pid: int, frame: ToChild) -> None:
        self.children[pid].inbox.append(frame)

    def wished(self, pid: int, model: str) -> None:
        self.apply(ev.AttachAsked(self.clock(), pid, model, LeaseKind.ADAPTERS, MODELS[model]))

    def is_open(self, opened: PendingCall) -> bool:
        return self.router.pending(opened.call.call_id) is not None

    # What may happen.

    def call(self, model: str, priority: Priority = Priority.INTERACTIVE) -> None:
        base = model if model in BASES else f"{model.partition('-')[0]}:1"
        pid = self.router.serving(base, "cpu0")
        if pid is None or (
            self.table.process(pid).state in (State.STOPPING, State.EXITED)
            and not self.table.runtimes[pid].is_returning
        ):
            pid = next(self.pids)
            spec = Spec("serve", {"base": base}, priority=Priority.INTERACTIVE, need_bytes=self.need)
            self.post(ev.Submitted(self.clock(), pid, spec, {LeaseKind.WEIGHTS: self.need}))
        self.calls.append(self.router.open(pid, Call(next(self.ids), model, "embed", ("x",), priority=priority)))
        self.look()

    def work(self, pid: int) -> None:
        """A child takes its next frame, or ends if it was told to and has nothing in hand."""
        child = self.children[pid]
        if child.inbox:
            self.take(child, child.inbox.popleft())
        elif child.hand:
            call_id, _ = child.hand.popitem()
            self.router.answered([Chunk(call_id, ("y",))])
            self.look()
        elif child.is_stopping:
            self.end(pid, 0)

    def take(self, child: Child, frame: ToChild | do.Attach) -> None:
        match frame:
            case Ask(call):
                assert call.model in child.models or call.model in BASES, "a call for a model that is not there"
                child.hand[call.call_id] = call.model
            case Cancel(call_id):
                child.hand.pop(call_id, None)
            case do.Attach(_, model):
                child.models.add(model)
                self.post(ev.Attached(self.clock(), child.pid, model, 1.0))
            case Detach(model):
                child.models.discard(model)
                self.post(ev.Detached(self.clock(), child.pid, model))

    def begin(self, pid: int) -> None:
        self.starting.discard(pid)
        self.children[pid] = Child(pid, self.need)
        self.post(ev.Forked(self.clock(), pid, 1000 + pid, 0.0))
        self.post(ev.Ready(self.clock(), pid))
        if self.table.process(pid).state is State.STOPPING:
            self.children[pid].is_stopping = True

    def end(self, pid: int, code: int) -> None:
        del self.children[pid]
        self.post(ev.ChildExited(self.clock(), pid, 1000 + pid, code))
        life = self.table.runtimes[pid]
        self.post(ev.TimerFired(self.clock(), pid, life.number, "restart"))

    def leave(self, opened: PendingCall) -> None:
        self.router.drop(opened)
        self.look()

    # What must hold.

    def check(self) -> None:
        ledger = self.table.ledger
        ledger.audit(pid for pid, process in self.table.processes.items() if process.state is not State.EXITED)
        assert ledger.free("cpu0") >= 0
        for child in self.children.values():
            assert child.size_bytes <= ledger.held_bytes(child.pid, "cpu0"), "a child holds more than it leased"

    def settle(self) -> None:
        """Let everybody do all there is to do."""
        for _ in range(2000):
            busy = any(c.inbox or c.hand or c.is_stopping for c in self.children.values())
            if not self.starting and not busy and not self.router.in_flight:
                return
            self.clock.move(1.0)
            for pid in list(self.starting):
                self.begin(pid)
            for pid in list(self.children):
                self.work(pid)
            self.look()
        raise AssertionError(f"{self.router.in_flight} calls wait for ever")


STEPS = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(sorted((*MODELS, *BASES)))),
    st.tuples(st.just("work"), st.integers(0, 9)),
    st.tuples(st.just("work"), st.integers(0, 9)),
    st.tuples(st.just("begin"), st.integers(0, 5)),
    st.tuples(st.just("crash"), st.integers(0, 5)),
    st.tuples(st.just("leave"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.integers(1, 500)),
)


def play(world: World, steps: list[tuple[str, str | int]]) -> None:
    for kind, which in steps:
        pids = sorted(world.starting if kind == "begin" else world.children)
        match kind, which:
            case "call", str():
                world.call(which)
            case "wait", int():
                world.clock.move(which)
                world.look()
            case "leave", int() if world.calls:
                world.leave(world.calls[which % len(world.calls)])
            case "begin", int() if pids:
                world.begin(pids[which % len(pids)])
            case "work", int() if pids:
                pid = pids[which % len(pids)]
                for _ in range(1 + which // 3):
                    if pid in world.children:
                        world.work(pid)
            case "crash", int() if pids:
                world.end(pids[which % len(pids)], -9)


@pytest.mark.slow
@pytest.mark.parametrize("need", [NEED, 60])  # of 100: both bases fit, or one
@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, min_size=30, max_size=80))
def test_the_ledger_never_goes_over_and_never_leaks_and_every_call_is_answered(need, steps):
    world = World(need)
    play(world, steps)
    world.settle()
    assert world.router.in_flight == 0
    for opened in world.calls:
        codes = {chunk.fault.code for chunk in opened.chunks if chunk.fault is not None}
        assert codes <= {"no_room", "cancelled", "process_died"}
    held = {pid: child.size_bytes for pid, child in world.children.items()}
    assert held == {pid: world.table.ledger.held_bytes(pid, "cpu0") for pid in held}
    for pid in list(world.children):
        world.post(ev.KillAsked(world.clock(), pid))
        world.end(pid, 0)
    assert world.table.ledger.leases() == ()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(sorted(MODELS)), min_size=1, max_size=30))
def test_calls_one_after_the_other_are_all_answered_if_each_model_fits_alone(models):
    """Whatever was there before gives way, and comes again with its next call."""
    world = World()
    for model in models:
        world.call(model)
        world.settle()
        chunk = world.calls[-1].chunks.popleft()
        assert (chunk.fault is None) == (MODELS[model] + NEED <= CAPACITY)


def test_a_model_with_calls_is_never_displaced_and_the_other_waits():
    world = World()
    world.call("red-c:1")
    world.begin(1)
    for _ in range(2):
        world.work(1)
    world.call("red-d:1")
    assert not world.calls[-1].chunks
    world.settle()
    assert [one.chunks.popleft().fault for one in world.calls] == [None, None]


def kept_busy(world: World, models: Sequence[str], seconds: int) -> dict[str, list[float]]:
    """How long each call of callers waited that ask again as soon as they are answered, ten for each model."""
    waits: dict[str, list[float]] = {model: [] for model in models}
    for model in [*models] * 10:
        world.call(model)
    for _ in range(4 * seconds):
        world.clock.move(0.25)
        for pid in list(world.starting):
            world.begin(pid)
        for pid in list(world.children):
            for _ in range(4):
                if pid in world.children:
                    world.work(pid)
        world.look()
        for opened in [one for one in world.calls if one.chunks]:
            assert opened.chunks.popleft().fault is None
            world.calls.remove(opened)
            waits[opened.call.model].append(world.clock() - opened.since)
            world.call(opened.call.model)
    return waits


@pytest.mark.slow
@pytest.mark.parametrize("models", [("red:1", "blue:1"), ("red-a:1", "red-b:1", "blue-a:1", "blue:1")])
def test_bases_that_are_asked_without_end_and_do_not_fit_together_take_turns(models):
    waits = kept_busy(World(need=60), models, 300)
    for model in models:
        assert len(waits[model]) > 100, "it has its time"
        assert max(waits[model]) < 4 * BASE_STAYS_S, "and waits no longer than the others stay"


def test_bases_that_fit_together_never_end_for_each_other():
    world = World()
    kept_busy(world, BASES, 100)
    assert [one.restarts for one in world.table.processes.values()] == [0, 0]


def test_a_base_that_would_not_fit_even_then_ends_nobody():
    world = World(need=60)
    train = Spec("train", {"name": "x"}, need_bytes=30)
    world.post(ev.Submitted(world.clock(), next(world.pids), train, {LeaseKind.WEIGHTS: 30}))
    world.call("red:1")
    world.begin(2)
    world.need = 75
    for _ in range(50):
        world.call("red:1")
        world.call("blue:1")
        world.clock.move(1.0)
        world.work(2)
        world.look()
    assert world.table.process(2).state is State.READY


def test_an_answer_in_hand_is_brought_to_its_end_before_its_base_gives_way():
    world = World(need=60)
    world.call("red:1")
    world.begin(1)
    world.work(1)
    world.clock.move(BASE_STAYS_S)
    world.call("blue:1")
    world.clock.move(BASE_WAITS_S)
    world.look()
    world.call("red:1")
    assert world.table.process(1).state is State.READY
    assert not world.calls[-1].is_sent
    world.work(1)
    assert world.calls[0].chunks.popleft().fault is None
    assert world.table.process(1).state is State.STOPPING
    world.settle()
    assert [one.chunks.popleft().fault for one in world.calls[1:]] == [None, None]
    assert world.table.process(1).restarts == 1


def test_calls_of_a_lower_class_wait_longer_before_a_base_gives_way():
    world = World(need=60)
    world.call("red:1")
    world.begin(1)
    world.call("blue:1", Priority.BACKGROUND)
    for _ in range(int(BASE_WAITS_S + PATIENCE_S[Priority.BACKGROUND])):
        world.call("red:1")
        assert world.calls[-1].is_sent
        world.clock.move(1.0)
        world.look()
    world.call("red:1")
    assert not world.calls[-1].is_sent


def yielded(world: World) -> None:
    """red has given way to blue and is queued, with a call that waits for it."""
    world.call("red:1")
    world.begin(1)
    world.clock.move(BASE_STAYS_S)
    world.call("blue:1")
    world.clock.move(BASE_WAITS_S)
    world.look()
    world.call("red:1")
    for _ in range(3):
        world.work(1)
    assert world.table.process(1).state is State.QUEUED
    assert world.starting == {2}


def test_a_base_that_gave_way_and_is_queued_ends_with_the_daemon():
    world = World(need=60)
    yielded(world)
    world.post(ev.DownAsked(world.clock()))
    assert world.table.process(1).state is State.EXITED
    fault = world.calls[-1].chunks.popleft().fault
    assert fault is not None
    assert fault.code == "unavailable"


def also(world: World, base: str, need: int) -> None:
    """A serve process of another size is submitted, and called."""
    pid = next(world.pids)
    spec = Spec("serve", {"base": base}, priority=Priority.INTERACTIVE, need_bytes=need)
    world.post(ev.Submitted(world.clock(), pid, spec, {LeaseKind.WEIGHTS: need}))
    world.calls.append(world.router.open(pid, Call(next(world.ids), base, "embed", ("x",))))
    world.look()


def test_a_base_that_gives_way_is_not_ended_as_unused_while_its_calls_wait():
    world = World(need=40)
    for pid, model in ((1, "red:1"), (2, "blue:1")):
        world.call(model)
        world.begin(pid)
        world.work(pid)
    world.idle_timeout_s = 1.0
    world.clock.move(BASE_STAYS_S)
    also(world, "green:1", 75)
    world.clock.move(BASE_WAITS_S)
    world.look()
    world.call("red:1")
    world.work(1)
    world.clock.move(5.0)
    world.look()
    assert world.table.process(1).state is State.READY, "it waits for blue, which has a call in hand"
    assert not world.calls[-1].chunks


def test_room_is_made_for_the_first_of_the_queue_when_one_behind_it_has_waited():
    world = World(need=60)
    world.call("red:1")
    world.begin(1)
    world.work(1)
    world.call("blue:1", Priority.BACKGROUND)
    also(world, "green:1", 45)
    world.clock.move(BASE_STAYS_S)
    world.look()
    world.call("red:1")
    assert not world.calls[-1].is_sent
    for _ in range(2):
        world.work(1)
    assert world.starting == {2}


def test_a_queued_base_whose_callers_have_left_keeps_nobody_from_starting():
    world = World(need=60)
    world.call("red:1")
    world.begin(1)
    world.work(1)
    world.call("blue:1")
    train = Spec("train", {"name": "x"}, need_bytes=30)
    world.post(ev.Submitted(world.clock(), next(world.pids), train, {LeaseKind.WEIGHTS: 30}))
    assert world.table.process(3).state is State.QUEUED
    world.leave(world.calls[-1])
    assert world.table.process(2).state is State.EXITED
    assert world.table.process(3).state is State.STARTING


def test_one_long_answer_does_not_keep_a_base_from_answering_others_for_ever():
    world = World(need=60)
    world.call("red:1")
    world.begin(1)
    world.work(1)
    world.clock.move(BASE_STAYS_S)
    world.call("blue:1")
    world.clock.move(BASE_WAITS_S)
    world.look()
    world.call("red:1")
    assert not world.calls[-1].is_sent
    world.clock.move(DRAINS_S)
    world.look()
    assert world.calls[-1].is_sent
