"""The process table: every state of the kernel, changed by `apply(event) -> effects` and by nothing else.

It is pure: no clock, no lock, no await, no log line. Replaying the journal's events gives the same table again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.abi.device import Device, Lease, LeaseKind
from llmos.abi.error import Fault, IllegalMove, ProcessDied, ProcessNotFound, Unavailable
from llmos.abi.model import OfferKind
from llmos.abi.process import Class, Process, Program, State
from llmos.kernel import events as ev
from llmos.kernel.events import Effect, Event
from llmos.kernel.memory import Ledger, no_room
from llmos.kernel.promises import Promises
from llmos.kernel.scheduler import STARTS_TO_FAIL, Idle, View, backoff_s

RESUMABLE = frozenset({Program.TRAIN, Program.PULL})
ALIVE = frozenset({State.STARTING, State.READY, State.SUSPENDED, State.STOPPING})
PASSING_FAULTS = frozenset({"offline", "unavailable", "disk_full", "no_room", "cancelled"})
HEALTHY_AFTER_S = 10.0  # a serve process that was ready for so long starts again with a clean record
TERM_GRACE_S = 3.0
KEEP_ENDED = 200


@dataclass(frozen=True, slots=True)
class Life:
    """What the table remembers of a process beside what it shows."""

    needs: dict[LeaseKind, int]
    number: int = 0  # how often it was started: an alarm of an earlier life means nothing
    born_at: float = 0.0
    ready_at: float | None = None
    crashes: int = 0  # in a row
    is_backing_off: bool = False
    models: dict[str, tuple[LeaseKind, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole table as the journal keeps it."""

    processes: tuple[Process, ...] = ()
    lives: dict[int, Life] = field(default_factory=dict)
    leases: tuple[Lease, ...] = ()
    devices: tuple[Device, ...] = ()
    probed: tuple[Device, ...] = ()
    probe_key: str = ""
    probed_key: str = ""
    promises: Promises = field(default_factory=Promises)
    last_pid: int = 0


class Table:
    """All processes, their leases, the devices, and the store's unfinished work."""

    def __init__(
        self, snapshot: Snapshot | None = None, *, memory_share: float = 0.8, stop_grace_s: float = 60.0
    ) -> None:
        kept = snapshot or Snapshot()
        self._share = memory_share
        self._stop_grace_s = stop_grace_s
        self.processes = {process.pid: process for process in kept.processes}
        self.lives = dict(kept.lives)
        self.devices = kept.devices
        self.probed, self.probe_key, self.probed_key = kept.probed, kept.probe_key, kept.probed_key
        self.promises = kept.promises
        self.last_pid = kept.last_pid
        self.is_down = False
        self.ledger = Ledger(kept.devices, memory_share)
        for lease in kept.leases:
            self.ledger.book(lease)
        self._changed: dict[int, None] = {}

    def snapshot(self) -> Snapshot:
        """The whole table, less the oldest of the processes that are over."""
        over = [pid for pid, process in self.processes.items() if process.state is State.EXITED]
        forgotten = set(over[:-KEEP_ENDED])
        return Snapshot(
            processes=tuple(process for pid, process in self.processes.items() if pid not in forgotten),
            lives={pid: life for pid, life in self.lives.items() if pid not in forgotten},
            leases=self.ledger.leases(),
            devices=self.devices,
            probed=self.probed,
            probe_key=self.probe_key,
            probed_key=self.probed_key,
            promises=self.promises,
            last_pid=self.last_pid,
        )

    def process(self, pid: int) -> Process:
        if pid not in self.processes:
            raise ProcessNotFound(f"No process {pid}. See what there is: llmos ps --all", pid=pid)
        return self.processes[pid]

    def drain_changes(self) -> list[Process]:
        """The processes that changed since the last time this was asked."""
        changed = [self.processes[pid] for pid in self._changed]
        self._changed.clear()
        return changed

    @property
    def is_probing(self) -> bool:
        """The speeds of this machine's devices are not known, and a process is about to find them out."""
        return self.probe_key != self.probed_key and any(
            p.spec.program is Program.PROBE and not p.is_ended for p in self.processes.values()
        )

    def view(self, at: float, idle: Iterable[Idle], idle_timeout_s: float) -> View:
        """What the scheduler decides from."""
        leaving: dict[str, int] = {}
        for process in self.processes.values():
            if process.state is State.STOPPING:
                device = process.spec.device
                leaving[device] = leaving.get(device, 0) + self.ledger.held(process.pid, device)
        return View(
            at=at,
            queued=[p for p in self.processes.values() if self._may_start(p)],
            running=[p for p in self.processes.values() if p.state in ALIVE],
            free_bytes={device.name: self.ledger.free(device.name) for device in self.devices},
            leaving_bytes=leaving,
            idle=list(idle),
            is_probing=self.is_probing,
            idle_timeout_s=idle_timeout_s,
        )

    def check(self, event: Event) -> None:
        """Raises if what an event asks for cannot be done now; an event that passed may be applied."""
        match event:
            case ev.Submitted() if self.is_down:
                raise Unavailable("The daemon is going down. Start it again: llmos up")
            case ev.KillAsked():
                self._check_state(event.pid, "kill", frozenset(State) - {State.EXITED})
            case ev.SuspendAsked():
                self._check_state(event.pid, "suspend", frozenset({State.READY}))
            case ev.ResumeAsked():
                self._check_state(event.pid, "resume", frozenset({State.SUSPENDED, State.INTERRUPTED}))
            case ev.NiceAsked():
                self._check_state(event.pid, "nice", frozenset(State) - {State.EXITED})
            case ev.AttachAsked():
                self._check_state(event.pid, "attach a model to", ALIVE)
                device = self.process(event.pid).spec.device
                free = self.ledger.free(device)
                if event.model not in self.lives[event.pid].models and event.size_bytes > free:
                    raise no_room(device, event.size_bytes, free)

    def apply(self, event: Event) -> list[Effect]:
        """Change the table as the event says; what is to be done about it comes back."""
        return _HANDLERS[type(event)](self, event)

    # Asked.

    def _submitted(self, event: ev.Submitted) -> list[Effect]:
        self.last_pid = max(self.last_pid, event.pid)
        self.lives[event.pid] = Life(needs=event.needs)
        self._put(Process(event.pid, event.spec, created_at=event.at))
        return []

    def _kill_asked(self, event: ev.KillAsked) -> list[Effect]:
        process = self.process(event.pid)
        if process.state in (State.QUEUED, State.INTERRUPTED):
            return self._end(process, event.at, State.EXITED, event.reason)
        return self._stop(process, event.reason, is_forced=event.is_forced)

    def _suspend_asked(self, event: ev.SuspendAsked) -> list[Effect]:
        self._put(self.process(event.pid).moved(State.SUSPENDED, reason="suspended by the user"))
        return [ev.Signal(event.pid, signal.SIGSTOP)]

    def _resume_asked(self, event: ev.ResumeAsked) -> list[Effect]:
        process = self.process(event.pid)
        if process.state is State.SUSPENDED:
            self._put(process.moved(State.READY, reason=""))
            return [ev.Signal(event.pid, signal.SIGCONT)]
        self._put(process.moved(State.QUEUED, ended_at=None, exit_code=None, fault=None, reason="to be continued"))
        return []

    def _nice_asked(self, event: ev.NiceAsked) -> list[Effect]:
        process = self.process(event.pid)
        self._put(replace(process, spec=replace(process.spec, klass=event.klass)))
        return [ev.Renice(event.pid, event.klass)] if process.state in ALIVE else []

    def _attach_asked(self, event: ev.AttachAsked) -> list[Effect]:
        life = self.lives[event.pid]
        if event.model in life.models:
            return []
        self.ledger.book(Lease(event.pid, self.process(event.pid).spec.device, event.kind, event.size_bytes))
        models = {**life.models, event.model: (event.kind, event.size_bytes)}
        self.lives[event.pid] = replace(life, models=models)
        return []

    def _detached(self, event: ev.Detached) -> list[Effect]:
        life = self.lives.get(event.pid)
        if life is not None and event.model in life.models:
            kind, size_bytes = life.models[event.model]
            self.ledger.give_back(Lease(event.pid, self.process(event.pid).spec.device, kind, size_bytes))
            models = {name: held for name, held in life.models.items() if name != event.model}
            self.lives[event.pid] = replace(life, models=models)
        return []

    # Decided by the scheduler.

    def _admitted(self, event: ev.Admitted) -> list[Effect]:
        process, life = self.process(event.pid), self.lives[event.pid]
        for kind, size_bytes in life.needs.items():
            self.ledger.book(Lease(event.pid, process.spec.device, kind, size_bytes))
        self.lives[event.pid] = replace(life, number=life.number + 1, ready_at=None, models={})
        self._put(process.moved(State.STARTING, started_at=event.at, os_pid=None, fault=None, reason=""))
        return [ev.Start(event.pid)]

    def _delayed(self, event: ev.Delayed) -> list[Effect]:
        process = self.process(event.pid)
        if process.reason != event.reason:
            self._put(replace(process, reason=event.reason))
        return []

    def _evicted(self, event: ev.Evicted) -> list[Effect]:
        return self._stop(self.process(event.pid), event.reason)

    # From the children.

    def _forked(self, event: ev.Forked) -> list[Effect]:
        process = self.process(event.pid)
        if process.state not in ALIVE:  # it ended as soon as it was born, and that was heard first
            return []
        self.lives[event.pid] = replace(self.lives[event.pid], born_at=event.born_at)
        self._put(replace(process, os_pid=event.os_pid))
        return []

    def _start_failed(self, event: ev.StartFailed) -> list[Effect]:
        process = replace(self.process(event.pid), fault=event.fault)
        ended = self._end(process, event.at, State.EXITED, event.fault.message)
        return [*ended, *self._settle(process, event.fault)]

    def _became_ready(self, event: ev.BecameReady) -> list[Effect]:
        process = self.process(event.pid)
        if process.state is not State.STARTING:  # it was told to stop, or suspended, just before
            return []
        self.lives[event.pid] = replace(self.lives[event.pid], ready_at=event.at)
        self._put(process.moved(State.READY))
        return [ev.Settle(event.pid)] if process.spec.program is Program.SERVE else []

    def _progressed(self, event: ev.Progressed) -> list[Effect]:
        self._put(replace(self.process(event.pid), progress=event.progress))
        return []

    def _metered(self, event: ev.Metered) -> list[Effect]:
        self._put(replace(self.process(event.pid), usage=event.usage))
        return []

    def _child_failed(self, event: ev.ChildFailed) -> list[Effect]:
        self._put(replace(self.process(event.pid), fault=event.fault, reason=event.fault.message))
        return []

    def _child_exited(self, event: ev.ChildExited) -> list[Effect]:
        process = replace(self.process(event.pid), exit_code=event.code)
        if process.state not in ALIVE:
            return []
        if process.spec.program is Program.SERVE and process.state is not State.STOPPING:
            return self._crashed(process, event)
        state = self._state_after(process, event.code)
        ended = self._end(process, event.at, state, _why(process, event.code, state))
        return [*ended, *self._settle(process, _died(process))]

    def _crashed(self, process: Process, event: ev.ChildExited) -> list[Effect]:
        """A serve process ended unasked: it starts again after a while, unless it never gets as far as ready."""
        life = self.lives[event.pid]
        was_ready_s = 0.0 if life.ready_at is None else event.at - life.ready_at
        crashes = 1 if was_ready_s >= HEALTHY_AFTER_S else life.crashes + 1
        is_hopeless = process.fault is not None and process.fault.code not in PASSING_FAULTS
        if life.ready_at is None and (is_hopeless or crashes >= STARTS_TO_FAIL):
            fault = process.fault or _died(process)
            ended = self._end(replace(process, fault=fault), event.at, State.EXITED, fault.message)
            return [*ended, *self._settle(process, fault)]
        self.ledger.release(process.pid)
        self.lives[process.pid] = replace(life, crashes=crashes, is_backing_off=True, models={})
        wait_s = backoff_s(crashes)
        reason = f"{_why(process, event.code, State.QUEUED)}; starts again in {wait_s:g} s"
        self._put(process.moved(State.QUEUED, os_pid=None, restarts=process.restarts + 1, reason=reason))
        return [ev.Alarm(process.pid, life.number, "restart", wait_s)]

    def _state_after(self, process: Process, code: int) -> State:
        """Interrupted if the program can go on from what it left, and there is a reason to; else it is over."""
        if process.spec.program not in RESUMABLE:
            return State.EXITED
        if process.state is State.STOPPING:
            is_done = code == 0 and any(":" in ref for ref in process.made)
            return State.EXITED if is_done else State.INTERRUPTED
        if code == 0 or (process.fault is not None and process.fault.code not in PASSING_FAULTS):
            return State.EXITED
        return State.INTERRUPTED

    def _devices_found(self, event: ev.DevicesFound) -> list[Effect]:
        self.probe_key = event.probe_key
        self._own(event.devices)
        return []

    def _devices_probed(self, event: ev.DevicesProbed) -> list[Effect]:
        self.probed, self.probed_key = event.devices, self.probe_key
        self._own(self.devices)
        return []

    # From the store.

    def _offer_made(self, event: ev.OfferMade) -> list[Effect]:
        return self.promises.offered(event, self.process(event.pid).created_at)

    def _committed(self, event: ev.Committed) -> list[Effect]:
        offer, effects = self.promises.committed(event)
        process = self.processes.get(event.pid)
        if offer is not None and process is not None and offer.kind is not OfferKind.RESIDENT:
            made = process.made if event.ref in process.made else (*process.made, event.ref)
            reason = offer.verdict.reason if offer.verdict is not None else process.reason
            self._put(replace(process, made=made, reason=reason))
        return effects

    def _commit_failed(self, event: ev.CommitFailed) -> list[Effect]:
        return self.promises.commit_failed(event)

    def _move_asked(self, event: ev.MoveAsked) -> list[Effect]:
        return self.promises.move_asked(event)

    def _moved(self, event: ev.Moved) -> list[Effect]:
        return self.promises.moved(event)

    def _move_refused(self, event: ev.MoveRefused) -> list[Effect]:
        effects = self.promises.moved(event)
        for effect in effects:
            if isinstance(effect, ev.Accept) and effect.pid in self.processes:
                self._put(replace(self.processes[effect.pid], reason=event.fault.message))
        return effects

    # From the clock and the daemon.

    def _rang(self, event: ev.Rang) -> list[Effect]:
        process, life = self.process(event.pid), self.lives[event.pid]
        if event.life != life.number:
            return []
        if event.step == "restart":
            self.lives[event.pid] = replace(life, is_backing_off=False)
            return []
        if process.state is not State.STOPPING:
            return []
        if event.step == "term":
            term = ev.Signal(event.pid, signal.SIGTERM)
            return [term, ev.Alarm(event.pid, life.number, "kill", TERM_GRACE_S)]
        return [ev.Signal(event.pid, signal.SIGKILL)]

    def _daemon_started(self, event: ev.DaemonStarted) -> list[Effect]:
        """An earlier daemon's children ended with it: say so of each, and finish what the store was promised."""
        effects: list[Effect] = []
        for process in list(self.processes.values()):
            if process.state in ALIVE:
                if process.os_pid is not None:
                    effects.append(ev.Slay(process.os_pid, self.lives[process.pid].born_at))
                state = State.INTERRUPTED if process.spec.program in RESUMABLE else State.EXITED
                effects += self._end(process, event.at, state, "ended with the daemon")
            elif process.state is State.QUEUED and process.spec.program not in RESUMABLE:
                effects += self._end(process, event.at, State.EXITED, "ended with the daemon")
        return [*effects, *self.promises.unfinished()]

    def _down_asked(self, event: ev.DownAsked) -> list[Effect]:
        self.is_down = True
        effects: list[Effect] = []
        for process in list(self.processes.values()):
            if process.state in ALIVE - {State.STOPPING}:
                effects += self._stop(process, "the daemon goes down")
            elif process.state is State.QUEUED and process.spec.program not in RESUMABLE:
                effects += self._end(process, event.at, State.EXITED, "the daemon goes down")
                effects += self._settle(process, Fault(Unavailable.code, "The daemon is going down"))
        return effects

    # What several of them do.

    def _stop(self, process: Process, reason: str, *, is_forced: bool = False) -> list[Effect]:
        life = self.lives[process.pid]
        if process.state is not State.STOPPING:
            self._put(process.moved(State.STOPPING, reason=reason))
        wake: list[Effect] = [ev.Signal(process.pid, signal.SIGCONT)] if process.state is State.SUSPENDED else []
        if is_forced:
            return [ev.Signal(process.pid, signal.SIGKILL), ev.Alarm(process.pid, life.number, "kill", TERM_GRACE_S)]
        return [
            *wake,
            ev.Renice(process.pid, Class.INTERACTIVE),  # what must end should not have to wait for its turn
            ev.Stop(process.pid, reason),
            ev.Alarm(process.pid, life.number, "term", self._stop_grace_s),
        ]

    def _end(self, process: Process, at: float, state: State, reason: str) -> list[Effect]:
        self.ledger.release(process.pid)
        self.lives[process.pid] = replace(self.lives[process.pid], models={}, is_backing_off=False)
        self._put(process.moved(state, ended_at=at, os_pid=None, reason=reason))
        return [ev.Clean(process.pid)] if state is State.EXITED else []

    def _settle(self, process: Process, fault: Fault) -> list[Effect]:
        return [ev.Settle(process.pid, fault)] if process.spec.program is Program.SERVE else []

    def _may_start(self, process: Process) -> bool:
        return process.state is State.QUEUED and not self.is_down and not self.lives[process.pid].is_backing_off

    def _check_state(self, pid: int, verb: str, allowed: frozenset[State]) -> None:
        process = self.process(pid)
        if process.state not in allowed:
            raise IllegalMove(
                f"Cannot {verb} process {pid}: it is {process.state}. That is possible while it is "
                f"{' or '.join(sorted(allowed))}",
                pid=pid,
                state=process.state,
            )

    def _own(self, found: Iterable[Device]) -> None:
        """The devices found, with what the probe measured of them, and those that only the probe could see."""
        probed = {device.name: device for device in self.probed} if self.probe_key == self.probed_key else {}
        devices = {device.name: device for device in found}
        for name, known in probed.items():
            present = devices.get(name, known)
            devices[name] = replace(present, gflops=known.gflops, dtype=known.dtype)
        self.devices = tuple(devices.values())
        self.ledger.own(self.devices, self._share)

    def _put(self, process: Process) -> None:
        self.processes[process.pid] = process
        self._changed[process.pid] = None


def _why(process: Process, code: int, state: State) -> str:
    if process.fault is not None:
        return process.fault.message
    if state is State.INTERRUPTED and process.state is State.STOPPING:
        return f"{process.reason}; go on with: llmos resume {process.pid}"
    if code < 0:
        return f"ended by signal {-code} ({signal.Signals(-code).name})"
    return process.reason if code == 0 else f"ended with exit code {code}"


def _died(process: Process) -> Fault:
    reason = process.reason or "its process ended"
    return Fault(ProcessDied.code, f"The process that held the call (pid {process.pid}) ended: {reason}")


_HANDLERS: dict[type[Event], Callable[[Table, Any], list[Effect]]] = {  # Any: each handler takes its own event
    ev.Submitted: Table._submitted,
    ev.KillAsked: Table._kill_asked,
    ev.SuspendAsked: Table._suspend_asked,
    ev.ResumeAsked: Table._resume_asked,
    ev.NiceAsked: Table._nice_asked,
    ev.AttachAsked: Table._attach_asked,
    ev.Detached: Table._detached,
    ev.MoveAsked: Table._move_asked,
    ev.Admitted: Table._admitted,
    ev.Delayed: Table._delayed,
    ev.Evicted: Table._evicted,
    ev.Forked: Table._forked,
    ev.StartFailed: Table._start_failed,
    ev.BecameReady: Table._became_ready,
    ev.Progressed: Table._progressed,
    ev.Metered: Table._metered,
    ev.ChildFailed: Table._child_failed,
    ev.ChildExited: Table._child_exited,
    ev.DevicesFound: Table._devices_found,
    ev.DevicesProbed: Table._devices_probed,
    ev.OfferMade: Table._offer_made,
    ev.Committed: Table._committed,
    ev.CommitFailed: Table._commit_failed,
    ev.Moved: Table._moved,
    ev.MoveRefused: Table._move_refused,
    ev.Rang: Table._rang,
    ev.DaemonStarted: Table._daemon_started,
    ev.DownAsked: Table._down_asked,
}
