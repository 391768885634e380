"""The process table: all kernel state, changed only by `apply(event) -> effects`.

It is pure: no clock, no lock, no await, no log line. Replaying the journal's events gives the same table again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.abi.device import Device, Lease
from llmos.abi.error import Cancelled, Fault, Unavailable
from llmos.abi.model import OfferKind
from llmos.abi.process import Process, Program, State
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.effects import Effect
from llmos.kernel.events import Event
from llmos.kernel.processes import child_events
from llmos.kernel.processes.eviction import IdleTarget
from llmos.kernel.processes.ledger import Ledger
from llmos.kernel.processes.pending_commits import PendingCommits
from llmos.kernel.processes.roster import ALIVE, RESUMABLE, ProcessRuntime, Roster
from llmos.kernel.processes.scheduler import View

KEEP_ENDED = 200


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole table as the journal keeps it."""

    processes: tuple[Process, ...] = ()
    lives: dict[int, ProcessRuntime] = field(default_factory=dict)
    leases: tuple[Lease, ...] = ()
    devices: tuple[Device, ...] = ()
    probed: tuple[Device, ...] = ()
    probe_key: str = ""
    probed_key: str = ""
    promises: PendingCommits = field(default_factory=PendingCommits)
    last_pid: int = 0


class ProcessTable:
    """The roster of processes, the devices, and the store's unfinished work."""

    def __init__(
        self, snapshot: Snapshot | None = None, *, memory_share: float = 0.8, stop_grace_s: float = 60.0
    ) -> None:
        kept = snapshot or Snapshot()
        self._share = memory_share
        self.ledger = Ledger(kept.devices, memory_share)
        for lease in kept.leases:
            self.ledger.book(lease)
        self.roster = Roster(kept.processes, dict(kept.lives), self.ledger, stop_grace_s=stop_grace_s)
        self.devices = kept.devices
        self.probed, self.probe_key, self.probed_key = kept.probed, kept.probe_key, kept.probed_key
        self.promises = kept.promises
        self.last_pid = kept.last_pid
        self.is_down = False

    @property
    def processes(self) -> dict[int, Process]:
        return self.roster.processes

    def process(self, pid: int) -> Process:
        return self.roster.process(pid)

    def drain_changes(self) -> list[Process]:
        """The processes that changed since the last time this was asked."""
        return self.roster.drain_changes()

    def snapshot(self) -> Snapshot:
        """The whole table, less the oldest of the processes that are over."""
        over = [pid for pid, process in self.processes.items() if process.state is State.EXITED]
        forgotten = set(over[:-KEEP_ENDED])
        return Snapshot(
            processes=tuple(process for pid, process in self.processes.items() if pid not in forgotten),
            lives={pid: runtime for pid, runtime in self.roster.lives.items() if pid not in forgotten},
            leases=self.ledger.leases(),
            devices=self.devices,
            probed=self.probed,
            probe_key=self.probe_key,
            probed_key=self.probed_key,
            promises=self.promises,
            last_pid=self.last_pid,
        )

    def device(self, name: str | None = None) -> Device:
        """The device of this name, or the one that a process gets when nobody said which: a GPU where there is one."""
        if name is None:
            return next((device for device in self.devices if device.kind == "cuda"), self.devices[0])
        return next(device for device in self.devices if device.name == name)

    @property
    def is_probing(self) -> bool:
        """The speeds of this machine's devices are not known, and a process is about to find them out."""
        return self.probe_key != self.probed_key and any(
            p.spec.program is Program.PROBE and not p.is_ended for p in self.processes.values()
        )

    def view(
        self,
        at: float,
        rests: Iterable[IdleTarget],
        idle_timeout_s: float,
        wanted: Collection[tuple[int, str]] = (),
        idle_at: float | None = None,
        forsaken: Collection[int] = (),
    ) -> View:
        """What the scheduler decides from, given what no call needs and which models calls wait for; `idle_at` is the
        time by the clock of `rests`, where that is another."""
        rests = list(rests)
        idle = self.roster.idle(rests)
        return View(
            at=at,
            queued=[] if self.is_down else self.roster.queued(),
            running=[p for p in self.processes.values() if p.state in ALIVE],
            free_bytes={device.name: self.ledger.free(device.name) for device in self.devices},
            leaving_bytes=self.roster.leaving_bytes(),
            idle=idle,
            attach_requests=self.roster.open_attach_requests(wanted, {rest.pid for rest in rests if rest.is_returning}),
            is_probing=self.is_probing,
            idle_timeout_s=idle_timeout_s,
            idle_at=idle_at,
            in_use_bytes=self.roster.in_use_bytes(idle),
            forsaken=forsaken,
        )

    def returning(self) -> frozenset[int]:
        """Those that may come back for what lies in their scratch folder, or whose offer there is not committed yet."""
        alive = (pid for pid, process in self.processes.items() if process.state is not State.EXITED)
        return frozenset({*alive, *(commit.pid for commit in self.promises.commits.values())})

    def check(self, event: Event) -> None:
        """Raises if what an event asks for cannot be done now; an event that passed may be applied."""
        match event:
            case ev.Submitted() if self.is_down:
                raise Unavailable("The daemon is going down. Start it again: llmos up")
            case ev.KillAsked():
                self.roster.check_state(event.pid, "kill", frozenset(State) - {State.EXITED})
            case ev.SuspendAsked():
                self.roster.check_state(event.pid, "suspend", frozenset({State.READY}))
            case ev.ResumeAsked() if self.process(event.pid).unresponsive_since is not None:
                pass  # somebody else may have stopped it
            case ev.ResumeAsked():
                self.roster.check_state(event.pid, "resume", frozenset({State.SUSPENDED, State.INTERRUPTED}))
            case ev.NiceAsked():
                self.roster.check_state(event.pid, "nice", frozenset(State) - {State.EXITED})

    def with_final_usage(self, event: Event) -> Event:
        """The event as it is to be written: the end of a child takes what was known of it at last along."""
        if not isinstance(event, ev.ChildExited) or event.pid not in self.processes:
            return event
        process = self.process(event.pid)
        return replace(event, usage=process.usage, progress=process.progress)

    def apply(self, event: Event) -> list[Effect]:
        """Change the table as the event says; what is to be done about it comes back."""
        of_children = child_events.HANDLERS.get(type(event))
        return of_children(self.roster, event) if of_children is not None else _HANDLERS[type(event)](self, event)

    # Asked.

    def _on_submitted(self, event: ev.Submitted) -> list[Effect]:
        self.last_pid = max(self.last_pid, event.pid)
        self.roster.lives[event.pid] = ProcessRuntime(needs=event.needs)
        self.roster.put(Process(event.pid, event.spec, created_at=event.at))
        self.roster.line_up(event.pid)
        return []

    def _on_kill_asked(self, event: ev.KillAsked) -> list[Effect]:
        process = self.process(event.pid)
        if process.state in (State.QUEUED, State.INTERRUPTED):
            told = self.roster.fail_calls(process, Fault(Cancelled.code, f"Process {event.pid} was {event.reason}"))
            return [*self.roster.end(process, event.at, State.EXITED, event.reason), *told]
        return self.roster.stop(process, event.reason, is_forced=event.is_forced)

    def _on_restart_asked(self, event: ev.RestartAsked) -> list[Effect]:
        return self.roster.restart(self.process(event.pid), event.reason)

    def _on_suspend_asked(self, event: ev.SuspendAsked) -> list[Effect]:
        self.roster.put(self.process(event.pid).moved(State.SUSPENDED, reason="suspended by the user"))
        return [do.Signal(event.pid, signal.SIGSTOP)]

    def _on_resume_asked(self, event: ev.ResumeAsked) -> list[Effect]:
        process = self.process(event.pid)
        if process.state is State.SUSPENDED:
            self.roster.put(process.moved(State.READY, reason=""))
            return [do.Signal(event.pid, signal.SIGCONT)]
        if process.state in ALIVE:
            return [do.Signal(event.pid, signal.SIGCONT)]  # one that does not respond
        again = process.moved(State.QUEUED, ended_at=None, exit_code=None, fault=None, reason="to be continued")
        self.roster.put(again)
        self.roster.line_up(event.pid)
        return []

    def _on_nice_asked(self, event: ev.NiceAsked) -> list[Effect]:
        process = self.process(event.pid)
        self.roster.put(replace(process, spec=replace(process.spec, priority=event.priority)))
        return [do.Renice(event.pid, event.priority)] if process.state in ALIVE else []

    def _on_attach_asked(self, event: ev.AttachAsked) -> list[Effect]:
        return self.roster.request(event)

    # Decided by the scheduler.

    def _on_admitted(self, event: ev.Admitted) -> list[Effect]:
        return self.roster.start(self.process(event.pid), event.at)

    def _on_delayed(self, event: ev.Delayed) -> list[Effect]:
        process = self.process(event.pid)
        if process.reason != event.reason:
            self.roster.put(replace(process, reason=event.reason))
        return []

    def _on_evicted(self, event: ev.Evicted) -> list[Effect]:
        process = self.process(event.pid)
        if process.state is State.QUEUED:
            fault = Fault(Cancelled.code, f"Process {event.pid} was ended: {event.reason}")
            ended = self.roster.end(process, event.at, State.EXITED, event.reason)
            return [*ended, *self.roster.fail_calls(process, fault)]
        restart_or_stop = self.roster.restart if event.is_returning else self.roster.stop
        return restart_or_stop(process, event.reason)

    def _on_attach_granted(self, event: ev.AttachGranted) -> list[Effect]:
        return self.roster.grant(event.pid, event.model)

    def _on_attach_refused(self, event: ev.AttachRefused) -> list[Effect]:
        return self.roster.refuse(event.pid, event.model, event.fault)

    def _on_displaced(self, event: ev.Displaced) -> list[Effect]:
        return self.roster.displace(event.pid, event.model)

    # Of the devices.

    def _on_devices_found(self, event: ev.DevicesFound) -> list[Effect]:
        self.probe_key = event.probe_key
        self._own(event.devices)
        return []

    def _on_devices_probed(self, event: ev.DevicesProbed) -> list[Effect]:
        self.probed, self.probed_key = event.devices, self.probe_key
        self._own(self.devices)
        return []

    # From the store.

    def _on_offer_made(self, event: ev.OfferMade) -> list[Effect]:
        return self.promises.offered(event, self.process(event.pid).created_at)

    def _on_committed(self, event: ev.Committed) -> list[Effect]:
        offer, effects = self.promises.committed(event)
        process = self.processes.get(event.pid)
        if offer is not None and process is not None and offer.kind is not OfferKind.RESIDENT:
            made = process.made if event.ref in process.made else (*process.made, event.ref)
            reason = offer.verdict.reason if offer.verdict is not None else process.reason
            self.roster.put(replace(process, made=made, reason=reason))
        return effects

    def _on_commit_failed(self, event: ev.CommitFailed) -> list[Effect]:
        return self.promises.commit_failed(event)

    def _on_move_asked(self, event: ev.PromotionAsked) -> list[Effect]:
        return self.promises.move_asked(event)

    def _on_moved(self, event: ev.PromotionChanged) -> list[Effect]:
        return self.promises.moved(event)

    def _on_move_refused(self, event: ev.PromotionRefused) -> list[Effect]:
        effects = self.promises.moved(event)
        for effect in effects:
            if isinstance(effect, do.Accept) and effect.pid in self.processes:
                self.roster.put(replace(self.processes[effect.pid], reason=event.fault.message))
        return effects

    # From the clock and the daemon.

    def _on_rang(self, event: ev.TimerFired) -> list[Effect]:
        return self.roster.rang(event)

    def _on_daemon_started(self, event: ev.DaemonStarted) -> list[Effect]:
        """An earlier daemon's children ended with it: say so of each, and finish what the store was promised."""
        effects: list[Effect] = []
        for process in list(self.processes.values()):
            if process.state in ALIVE:
                if process.os_pid is not None:
                    effects.append(do.KillOrphan(process.os_pid, self.roster.lives[process.pid].born_at))
                state = State.INTERRUPTED if process.spec.program in RESUMABLE else State.EXITED
                on = f"; go on with: llmos resume {process.pid}" if state is State.INTERRUPTED else ""
                effects += self.roster.end(process, event.at, state, f"ended with the daemon{on}")
            elif process.state is State.QUEUED and process.spec.program not in RESUMABLE:
                effects += self.roster.end(process, event.at, State.EXITED, "ended with the daemon")
        return [*effects, *self.promises.unfinished()]

    def _on_down_asked(self, event: ev.DownAsked) -> list[Effect]:
        self.is_down = True
        effects: list[Effect] = []
        for process in list(self.processes.values()):
            is_returning = self.roster.lives[process.pid].is_returning
            if process.state in ALIVE - {State.STOPPING} or is_returning:
                effects += self.roster.stop(process, "the daemon goes down")
            elif process.state is State.QUEUED and process.spec.program not in RESUMABLE:
                effects += self.roster.end(process, event.at, State.EXITED, "the daemon goes down")
                effects += self.roster.fail_calls(process, Fault(Unavailable.code, "The daemon is going down"))
        return effects

    # What several of them do.

    def _own(self, found: Iterable[Device]) -> None:
        """The devices found, with what the probe measured of them, and those that only the probe could see."""
        probed = {device.name: device for device in self.probed} if self.probe_key == self.probed_key else {}
        devices = {device.name: device for device in found}
        for name, known in probed.items():
            present = devices.get(name, known)
            devices[name] = replace(present, gflops=known.gflops, dtype=known.dtype, kernels=known.kernels)
        self.devices = tuple(devices.values())
        self.ledger.own(self.devices, self._share)


_HANDLERS: dict[type[Event], Callable[[ProcessTable, Any], list[Effect]]] = {  # Any: each handler takes its own event
    ev.Submitted: ProcessTable._on_submitted,
    ev.KillAsked: ProcessTable._on_kill_asked,
    ev.RestartAsked: ProcessTable._on_restart_asked,
    ev.SuspendAsked: ProcessTable._on_suspend_asked,
    ev.ResumeAsked: ProcessTable._on_resume_asked,
    ev.NiceAsked: ProcessTable._on_nice_asked,
    ev.AttachAsked: ProcessTable._on_attach_asked,
    ev.PromotionAsked: ProcessTable._on_move_asked,
    ev.Admitted: ProcessTable._on_admitted,
    ev.Delayed: ProcessTable._on_delayed,
    ev.Evicted: ProcessTable._on_evicted,
    ev.AttachGranted: ProcessTable._on_attach_granted,
    ev.AttachRefused: ProcessTable._on_attach_refused,
    ev.Displaced: ProcessTable._on_displaced,
    ev.DevicesFound: ProcessTable._on_devices_found,
    ev.DevicesProbed: ProcessTable._on_devices_probed,
    ev.OfferMade: ProcessTable._on_offer_made,
    ev.Committed: ProcessTable._on_committed,
    ev.CommitFailed: ProcessTable._on_commit_failed,
    ev.PromotionChanged: ProcessTable._on_moved,
    ev.PromotionRefused: ProcessTable._on_move_refused,
    ev.TimerFired: ProcessTable._on_rang,
    ev.DaemonStarted: ProcessTable._on_daemon_started,
    ev.DownAsked: ProcessTable._on_down_asked,
}
