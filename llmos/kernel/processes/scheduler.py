"""The scheduler: its view of the process table, and pure decisions from it on who starts, waits and is evicted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmos.abi.device import LeaseKind
from llmos.abi.error import Cancelled, Fault, fault_of
from llmos.abi.process import Priority, Process, State
from llmos.kernel.events import Admitted, AttachGranted, AttachRefused, Delayed, Displaced, Event, Evicted
from llmos.kernel.processes.eviction import EvictionCandidate, IdleTarget, cheapest
from llmos.kernel.processes.ledger import MIB, no_room
from llmos.kernel.processes.process_runtime import ALIVE, CALLED
from llmos.kernel.processes.turns import NOBODY, Crowd, Holding
from llmos.kernel.programs import traits_of

if TYPE_CHECKING:
    from llmos.kernel.processes.process_table import ProcessTable

RANK = {Priority.INTERACTIVE: 0, Priority.BATCH: 1, Priority.BACKGROUND: 2}
RUNNING = frozenset({State.STARTING, State.READY, State.STOPPING})
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 30.0
STARTS_TO_FAIL = 5  # a serve process is given up after this many crashes in a row before it was ever ready


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """A request to attach one more model to a serve process."""

    pid: int
    model: str
    kind: LeaseKind
    size_bytes: int
    device: str = "cpu0"
    is_wanted: bool = True  # a call still waits for it


@dataclass(frozen=True, slots=True)
class View:
    """The scheduler's input."""

    at: float
    queued: Sequence[Process]  # processes that may start, in queue order, without those in backoff
    running: Collection[Process]
    free_bytes: Mapping[str, int]
    leaving_bytes: Mapping[str, int]  # the bytes that leaving processes and models will free
    idle: Sequence[EvictionCandidate]
    attach_requests: Sequence[AttachRequest] = ()  # oldest first; none for a model that is still leaving
    is_probing: bool = False  # a probe measures the devices: programs that depend on the speeds wait
    idle_timeout_s: float = 0.0
    in_use_bytes: Mapping[str, int] = field(default_factory=dict)  # models that are in use and take turns
    forsaken: Collection[int] = ()  # serve processes that are not ready and have no waiting calls
    idle_at: float | None = None  # now, by the clock of idle times; None: the same as `at`
    unloads: Collection[tuple[int, str | None]] = ()  # asked to be unloaded: models, or (None) whole processes


@dataclass(slots=True)
class MemoryPlan:
    """The memory of all devices during scheduling: free, becoming free, and evictable."""

    at: float
    free: dict[str, int]
    leaving: dict[str, int]
    idle: list[EvictionCandidate]
    in_use: dict[str, int] = field(default_factory=dict)
    # devices where an earlier one waits for memory and must not be overtaken
    blocked: set[str] = field(default_factory=set)

    def take(self, device: str, size_bytes: int) -> bool:
        """Take the bytes, if they are free and no earlier one waits for the device."""
        if device in self.blocked or size_bytes > self.free.get(device, 0):
            return False
        self.free[device] -= size_bytes
        return True

    def missing(self, device: str, size_bytes: int) -> int:
        return size_bytes - self.free.get(device, 0) - self.leaving.get(device, 0)

    def give_up(self, victims: Iterable[EvictionCandidate], reason: str) -> list[Event]:
        """Evict these; their bytes become free once they have gone."""
        events: list[Event] = []
        for one in victims:
            self.idle.remove(one)
            self.leaving[one.device] = self.leaving.get(one.device, 0) + one.held_bytes
            if one.model is None:
                events.append(Evicted(self.at, one.pid, reason, one.is_returning))
            else:
                events.append(Displaced(self.at, one.pid, one.model, reason))
        return events


def view_of(
    table: ProcessTable,
    at: float,
    rests: Iterable[IdleTarget],
    idle_timeout_s: float,
    wanted: Collection[tuple[int, str]] = (),
    idle_at: float | None = None,
    forsaken: Collection[int] = (),
    unloads: Collection[tuple[int, str | None]] = (),
) -> View:
    """The scheduler's input, given the idle targets and the models that calls wait for.

    `idle_at` is the time by the clock of `rests`, if that differs from `at`.
    """
    rests = list(rests)
    idle = _idle(table, rests)
    return View(
        at=at,
        queued=[] if table.is_down else _queued(table),
        running=[p for p in table.processes.values() if p.state in ALIVE],
        free_bytes={device.name: table.ledger.free(device.name) for device in table.devices},
        leaving_bytes=_leaving_bytes(table),
        idle=idle,
        attach_requests=_open_attach_requests(table, wanted, {rest.pid for rest in rests if rest.is_returning}),
        is_probing=table.is_probing,
        idle_timeout_s=idle_timeout_s,
        idle_at=idle_at,
        in_use_bytes=_in_use_bytes(table, idle),
        forsaken=forsaken,
        unloads=unloads,
    )


def _queued(table: ProcessTable) -> list[Process]:
    """The processes that may start, in queue order."""
    found = [
        p for p in table.processes.values() if p.state is State.QUEUED and not table.runtimes[p.pid].is_backing_off
    ]
    return sorted(found, key=lambda p: (table.runtimes[p.pid].place, p.pid))


def _idle(table: ProcessTable, rests: Iterable[IdleTarget]) -> list[EvictionCandidate]:
    """The targets that may be evicted: ready processes, and attached models that are not leaving."""
    found = []
    for rest in rests:
        process, runtime = table.process(rest.pid), table.runtimes[rest.pid]
        if process.state is not State.READY:
            continue
        device = process.spec.device
        if rest.model is None:
            size_bytes = table.ledger.held_bytes(rest.pid, device)
            reload_s = _start_s(table, process) + sum(runtime.loads.values())
        elif rest.model in runtime.loads and rest.model not in runtime.leaving:
            size_bytes, reload_s = runtime.models[rest.model][1], runtime.loads[rest.model]
        else:
            continue
        found.append(
            EvictionCandidate(
                rest.pid, rest.since, size_bytes, rest.model, device, reload_s, rest.use, rest.is_returning
            )
        )
    return found


def _in_use_bytes(table: ProcessTable, idle: Iterable[EvictionCandidate]) -> dict[str, int]:
    """The bytes of models that are in use and stay, by device."""
    resting = {(one.pid, one.model) for one in idle}
    found: dict[str, int] = {}
    for process in table.processes.values():
        if process.state not in CALLED or (process.pid, None) in resting:
            continue
        runtime, device = table.runtimes[process.pid], process.spec.device
        for model, (_, size_bytes) in runtime.models.items():
            if model not in runtime.leaving and (process.pid, model) not in resting:
                found[device] = found.get(device, 0) + size_bytes
    return found


def _leaving_bytes(table: ProcessTable) -> dict[str, int]:
    """The bytes that leaving processes and models will free, by device."""
    leaving: dict[str, int] = {}
    for process in table.processes.values():
        if process.state not in ALIVE:
            continue
        device, runtime = process.spec.device, table.runtimes[process.pid]
        if process.state is State.STOPPING:
            size_bytes = table.ledger.held_bytes(process.pid, device)
        else:
            size_bytes = sum(runtime.models[model][1] for model in runtime.leaving)
        leaving[device] = leaving.get(device, 0) + size_bytes
    return leaving


def _open_attach_requests(
    table: ProcessTable, wanted: Collection[tuple[int, str]], yielding: Collection[int] = ()
) -> list[AttachRequest]:
    """The attach requests that may be granted, and whether calls still wait; none of yielding processes."""
    return [
        replace(request, is_wanted=key in wanted)
        for key, request in table.attach_requests.items()
        if request.model not in table.runtimes[request.pid].models and request.pid not in yielding
    ]


def crowd_of(table: ProcessTable) -> Crowd:
    """The serve processes that wait for memory, in start order, and those that hold it."""
    queued = [p for p in _queued(table) if table.traits(p).answers_calls]
    if not queued:
        return NOBODY
    leaving = _leaving_bytes(table)
    missing = {
        p.pid: p.spec.need_bytes - table.ledger.free(p.spec.device) - leaving.get(p.spec.device, 0)
        for p in sorted(queued, key=lambda p: RANK[p.spec.priority])
    }
    holding = {
        p.pid: Holding(table.ledger.held_bytes(p.pid, p.spec.device), _start_s(table, p))
        for p in table.processes.values()
        if table.traits(p).answers_calls and p.state is State.READY
    }
    return Crowd(missing, holding)


def _start_s(table: ProcessTable, process: Process) -> float:
    """The loading time of its base, as far as it is known."""
    ready_at, started_at = table.runtimes[process.pid].ready_at, process.started_at
    return 0.0 if ready_at is None or started_at is None else max(0.0, ready_at - started_at)


def schedule(view: View) -> list[Event]:
    """Everything that can be decided now: starts, delays with reasons, and evictions of idle targets."""
    plan = MemoryPlan(
        view.at, dict(view.free_bytes), dict(view.leaving_bytes), list(view.idle), dict(view.in_use_bytes)
    )
    events = [event for device in view.free_bytes for event in _balance_device(device, view, plan)]
    events += [event for request in view.attach_requests for event in _grant(request, plan)]
    working = {  # programs that run one at a time on a device
        (p.spec.device, traits_of(p.spec.program).exclusive_work): p.pid for p in view.running if p.state in RUNNING
    }
    for process in sorted(view.queued, key=lambda p: RANK[p.spec.priority]):
        device = process.spec.device
        traits = traits_of(process.spec.program)
        work = (device, traits.exclusive_work)
        if view.is_probing and not traits.measures_devices:
            events.append(Delayed(view.at, process.pid, "waits until the devices are measured"))
        elif traits.exclusive_work and work in working:
            said = f"waits for pid {working[work]}, which {traits.exclusive_work} on {device}"
            events.append(Delayed(view.at, process.pid, said))
        elif device in plan.blocked:
            events.append(Delayed(view.at, process.pid, f"waits for memory of {device}, behind others"))
        elif plan.take(device, process.spec.need_bytes):
            events.append(Admitted(view.at, process.pid))
            working[work] = process.pid
        elif process.pid in view.forsaken:
            events.append(Evicted(view.at, process.pid, "there was no room for it, and nobody waits for it any more"))
        else:
            events += _delay(process, plan)
    return events + _unload(view, plan) + _evict_unused(view, plan.idle)


def backoff_s(crashes: int) -> float:
    """The wait before a serve process is restarted after this many crashes in a row."""
    return float(min(FIRST_BACKOFF_S * 2 ** (min(crashes, 20) - 1), LONGEST_BACKOFF_S))


def _balance_device(device: str, view: View, plan: MemoryPlan) -> list[Event]:
    """Handle a device that is overdrawn because weights were larger than estimated.

    Idle targets are evicted, or else the process that became ready last, which is the one that does not fit.
    """
    overdrawn = plan.missing(device, 0)
    if overdrawn <= 0:
        return []
    victims = cheapest(overdrawn, [one for one in plan.idle if one.device == device])
    if victims:
        return plan.give_up(victims, f"room for {overdrawn / MIB:,.0f} MiB more of {device} than was estimated")
    serving = [p for p in view.running if p.spec.device == device and traits_of(p.spec.program).answers_calls]
    ready = [p for p in serving if p.state is State.READY]
    last = max(ready, key=lambda p: (p.started_at or 0.0, p.pid), default=None)
    if last is None:
        return []
    said = f"{last.spec.title or 'it'} needs {last.spec.need_bytes / MIB:,.0f} MiB, {overdrawn / MIB:,.0f} MiB more of "
    return [Evicted(plan.at, last.pid, f"{said}{device} than there is. End a process, or raise memory_share")]


def _grant(request: AttachRequest, plan: MemoryPlan) -> list[Event]:
    """Grant an attach request, or evict for it, or let it wait.

    It is refused if evicting all idle targets and all models that take turns would not be enough. Idle models of its
    own process go first, then other idle targets on the device.
    """
    if not request.is_wanted:
        return [_refuse(request, plan, fault_of(Cancelled(f"Nobody waits for {request.model} any more")))]
    if plan.take(request.device, request.size_bytes):
        plan.in_use[request.device] = plan.in_use.get(request.device, 0) + request.size_bytes
        return [AttachGranted(plan.at, request.pid, request.model)]
    if request.device in plan.blocked:
        return []
    here = [one for one in plan.idle if one.device == request.device]
    own = [one for one in here if one.pid == request.pid]
    missing = plan.missing(request.device, request.size_bytes)
    at_most = request.size_bytes - missing + sum(one.held_bytes for one in here) + plan.in_use.get(request.device, 0)
    if request.size_bytes > at_most:
        return [_refuse(request, plan, fault_of(no_room(request.device, request.size_bytes, at_most)))]
    victims = cheapest(missing, own, [one for one in here if one.pid != request.pid])
    plan.blocked.add(request.device)
    return plan.give_up(victims, f"room for {request.model}")


def _refuse(request: AttachRequest, plan: MemoryPlan, fault: Fault) -> Event:
    return AttachRefused(plan.at, request.pid, request.model, fault)


def _delay(process: Process, plan: MemoryPlan) -> list[Event]:
    """The process waits for memory, and idle targets are evicted if that is enough."""
    device = process.spec.device
    plan.blocked.add(device)
    missing = plan.missing(device, process.spec.need_bytes)
    victims = cheapest(missing, [one for one in plan.idle if one.device == device])
    reason = _needs(process, plan.free.get(device, 0))
    return [*plan.give_up(victims, f"room for pid {process.pid}"), Delayed(plan.at, process.pid, reason)]


def _unload(view: View, plan: MemoryPlan) -> list[Event]:
    """Unload what a client asked to be unloaded; processes that other calls need by now, or that go already, stay."""
    reason = "a client asked for it to be unloaded"
    processes = [one for one in plan.idle if one.model is None and (one.pid, None) in view.unloads]
    models = [Displaced(view.at, pid, model, reason) for pid, model in view.unloads if model is not None]
    return [*models, *plan.give_up(processes, reason)]


def _evict_unused(view: View, idle: Sequence[EvictionCandidate]) -> list[Event]:
    if view.idle_timeout_s <= 0:
        return []
    now = view.at if view.idle_at is None else view.idle_at
    return [
        Evicted(view.at, one.pid, f"no call for {view.idle_timeout_s:.0f} s")
        for one in idle
        if one.model is None and not one.is_returning and now - one.since >= view.idle_timeout_s
    ]


def _needs(process: Process, free_bytes: int) -> str:
    need, free = process.spec.need_bytes / MIB, max(free_bytes, 0) / MIB
    return f"waits for memory of {process.spec.device}: needs {need:,.0f} MiB, free are {free:,.0f} MiB"
