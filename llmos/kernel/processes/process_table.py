"""The process table: all kernel state, changed only by `apply(event) -> effects`.

It is pure: no clock, no lock, no await, no log line. Replaying the journal's events gives the same table.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from llmos.abi.device import Device, Lease
from llmos.abi.error import Cancelled, Fault, IllegalMove, ProcessNotFound, Unavailable
from llmos.abi.gate import DEFAULT_POLICY, GatePolicy
from llmos.abi.process import Priority, Process, State
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.alerts import alert_book
from llmos.kernel.effects import Effect
from llmos.kernel.events import Event
from llmos.kernel.processes import child_events, pending_commits
from llmos.kernel.processes.ledger import Ledger
from llmos.kernel.processes.process_runtime import ALIVE, CALLED, ProcessRuntime, Snapshot, without_models
from llmos.kernel.processes.scheduler import AttachRequest
from llmos.kernel.programs import traits_of
from llmos.kernel.programs.traits import Traits
from llmos.kernel.rollouts import rollout_events

KEEP_ENDED = 200
GOES_DOWN = "the daemon goes down"
GOES_DOWN_SUSPENDED = f"{GOES_DOWN}, and it was suspended"
FORCE_AGAIN_S = 3.0  # by then a process that was being forked exists and can be killed


class ProcessTable:
    """The processes, their leases, the devices, and unfinished commits."""

    def __init__(
        self, snapshot: Snapshot | None = None, *, memory_share: float = 0.8, stop_grace_s: float = 60.0
    ) -> None:
        kept = snapshot or Snapshot()
        self._share = memory_share
        self.ledger = Ledger(kept.devices, memory_share)
        for lease in kept.leases:
            self.ledger.book(lease)
        self.processes = {process.pid: process for process in kept.processes}
        self.runtimes = dict(kept.lives)
        self.attach_requests: dict[tuple[int, str], AttachRequest] = {}  # models that wait for memory
        self._changed: dict[int, None] = {}
        self._stop_grace_s = stop_grace_s
        self.devices = kept.devices
        self.probed, self.probe_key, self.probed_key = kept.probed, kept.probe_key, kept.probed_key
        self.pending_commits = kept.promises
        self.last_pid = kept.last_pid
        self.gate_policies = dict(kept.gate_policies)
        self.learn_orders = dict(kept.learn_orders)
        self.slos = kept.slos
        self.rollouts = kept.rollouts  # under way, by name
        self.ended_rollouts = kept.ended_rollouts  # by name, the newest first
        self.alert_book = kept.alert_book
        self.is_down = False

    def process(self, pid: int) -> Process:
        if pid not in self.processes:
            raise ProcessNotFound(f"No process {pid}. See what there is: llmos ps --all", pid=pid)
        return self.processes[pid]

    def traits(self, process: Process) -> Traits:
        """The traits in the journal, so that a replay does not depend on today's programs."""
        return self.runtimes[process.pid].traits or traits_of(process.spec.program)

    def gate_policy(self, name: str, default: GatePolicy = DEFAULT_POLICY) -> GatePolicy:
        """What new versions of this name must meet; `default` where nobody has chosen it."""
        return self.gate_policies.get(name, default)

    def put(self, process: Process) -> None:
        """Replace the process's record."""
        self.processes[process.pid] = process
        self._changed[process.pid] = None

    def drain_changes(self) -> list[Process]:
        """The processes that changed since the last call."""
        changed = [self.processes[pid] for pid in self._changed]
        self._changed.clear()
        return changed

    def snapshot(self) -> Snapshot:
        """A snapshot of the table, without the oldest ended processes."""
        over = [pid for pid, process in self.processes.items() if process.state is State.EXITED]
        forgotten = set(over[:-KEEP_ENDED])
        return Snapshot(
            processes=tuple(process for pid, process in self.processes.items() if pid not in forgotten),
            lives={pid: runtime for pid, runtime in self.runtimes.items() if pid not in forgotten},
            leases=self.ledger.leases(),
            devices=self.devices,
            probed=self.probed,
            probe_key=self.probe_key,
            probed_key=self.probed_key,
            promises=self.pending_commits,
            last_pid=self.last_pid,
            gate_policies=dict(self.gate_policies),
            learn_orders=dict(self.learn_orders),
            slos=self.slos,
            rollouts=self.rollouts,
            ended_rollouts=self.ended_rollouts,
            alert_book=self.alert_book,
        )

    def device(self, name: str | None = None) -> Device:
        """The device of this name, or the default one: a GPU if there is one."""
        if name is None:
            return next((device for device in self.devices if device.kind == "cuda"), self.devices[0])
        return next(device for device in self.devices if device.name == name)

    @property
    def is_probing(self) -> bool:
        """Whether the devices' speeds are unknown and a probe is about to measure them."""
        return self.probe_key != self.probed_key and any(
            self.traits(p).measures_devices and not p.is_ended for p in self.processes.values()
        )

    def returning(self) -> frozenset[int]:
        """The processes that may continue from their scratch folder, or whose offer there is not committed yet."""
        alive = (pid for pid, process in self.processes.items() if process.state is not State.EXITED)
        return frozenset({*alive, *(commit.pid for commit in self.pending_commits.commits.values())})

    # Events.

    def check(self, event: Event) -> None:
        """Raise if an event's request cannot be done now; an event that passed may be applied."""
        match event:
            case ev.Submitted() if self.is_down:
                raise Unavailable("The daemon is going down. Start it again: llmos up")
            case ev.KillAsked():
                self._check_state(event.pid, "kill", frozenset(State) - {State.EXITED})
            case ev.SuspendAsked():
                self._check_state(event.pid, "suspend", frozenset({State.READY}))
            case ev.ResumeAsked() if self.process(event.pid).unresponsive_since is not None:
                pass  # it may have been stopped already
            case ev.ResumeAsked():
                self._check_state(event.pid, "resume", frozenset({State.SUSPENDED, State.INTERRUPTED}))
            case ev.NiceAsked():
                self._check_state(event.pid, "nice", frozenset(State) - {State.EXITED})
            case ev.RolloutStarted() | ev.RolloutStopped():
                rollout_events.check_rollout(self, event)
            case ev.AlertAcknowledged() | ev.AlertSilenceEnded():
                self.alert_book.check(event)

    def _check_state(self, pid: int, verb: str, allowed: frozenset[State]) -> None:
        process = self.process(pid)
        if process.state not in allowed:
            raise IllegalMove(
                f"Cannot {verb} process {pid}: it is {process.state}. That is possible while it is "
                f"{' or '.join(sorted(allowed))}",
                pid=pid,
                state=process.state,
            )

    def with_final_usage(self, event: Event) -> Event:
        """The event as it is written: a child's exit includes its last usage and progress."""
        if not isinstance(event, ev.ChildExited) or event.pid not in self.processes:
            return event
        process = self.process(event.pid)
        return replace(event, usage=process.usage, progress=process.progress)

    def apply(self, event: Event) -> list[Effect]:
        """Change the table and return the resulting effects."""
        return _HANDLERS[type(event)](self, event)

    # Requests.

    def _on_submitted(self, event: ev.Submitted) -> list[Effect]:
        self.last_pid = max(self.last_pid, event.pid)
        self.runtimes[event.pid] = ProcessRuntime(needs=event.needs, traits=event.traits)
        self.put(Process(event.pid, event.spec, created_at=event.at))
        self.enqueue(event.pid)
        return []

    def _on_kill_asked(self, event: ev.KillAsked) -> list[Effect]:
        process = self.process(event.pid)
        if process.state is State.INTERRUPTED:
            return self._kill(process, event)
        why = f"stopped with process {event.pid}"
        with_it = [one for one in self._children(event.pid) if one.state is not State.INTERRUPTED]
        effects = [effect for one in with_it for effect in self._interrupt(one, replace(event, reason=why))]
        return [*self._kill(process, event), *effects]

    def _children(self, pid: int) -> list[Process]:
        """The processes that this one has started, and that have not exited."""
        return [p for p in self.processes.values() if p.spec.parent == pid and p.state is not State.EXITED]

    def _interrupt(self, child: Process, event: ev.KillAsked) -> list[Effect]:
        """A queued child keeps its checkpoint, for it may be resumed with its parent."""
        if child.state is State.QUEUED and self.traits(child).is_resumable:
            return self.end(child, event.at, State.INTERRUPTED, event.reason)
        return self._kill(child, event)

    def _kill(self, process: Process, event: ev.KillAsked) -> list[Effect]:
        if process.state in (State.QUEUED, State.INTERRUPTED):
            told = self.fail_calls(process, Fault(Cancelled.code, f"Process {process.pid} was {event.reason}"))
            return [*self.end(process, event.at, State.EXITED, event.reason), *told]
        return self.stop(process, event.reason, is_forced=event.is_forced)

    def _on_restart_asked(self, event: ev.RestartAsked) -> list[Effect]:
        return self.restart(self.process(event.pid), event.reason)

    def _on_suspend_asked(self, event: ev.SuspendAsked) -> list[Effect]:
        found = [self.process(event.pid), *(one for one in self._children(event.pid) if one.state is State.READY)]
        for process in found:
            by = "by the user" if process.pid == event.pid else f"with process {event.pid}"
            self.put(process.moved(State.SUSPENDED, reason=f"suspended {by}"))
        return [do.Signal(process.pid, signal.SIGSTOP) for process in found]

    def _on_resume_asked(self, event: ev.ResumeAsked) -> list[Effect]:
        process = self.process(event.pid)
        if process.state is State.SUSPENDED:
            with_it = (one for one in self._children(event.pid) if one.state is State.SUSPENDED)
            found = [process, *with_it]
            for one in found:
                self.put(one.moved(State.READY, reason=""))
            return [do.Signal(one.pid, signal.SIGCONT) for one in found]
        if process.state in ALIVE:
            return [do.Signal(event.pid, signal.SIGCONT)]  # it may be stopped by a signal from outside
        spec, progress = process.spec, process.progress
        spec = replace(spec, args={**spec.args, **event.args}, title=event.title or spec.title)
        progress = None if progress is None else progress.waiting
        anew: dict[str, Any] = {"ended_at": None, "exit_code": None, "fault": None}  # Any: as moved takes it
        self.put(process.moved(State.QUEUED, spec=spec, progress=progress, reason="to be continued", **anew))
        self.enqueue(event.pid)
        return []

    def _on_nice_asked(self, event: ev.NiceAsked) -> list[Effect]:
        process = self.process(event.pid)
        self.put(replace(process, spec=replace(process.spec, priority=event.priority)))
        return [do.Renice(event.pid, event.priority)] if process.state in ALIVE else []

    # Decisions of the scheduler.

    def _on_admitted(self, event: ev.Admitted) -> list[Effect]:
        return self.start(self.process(event.pid), event.at)

    def _on_delayed(self, event: ev.Delayed) -> list[Effect]:
        process = self.process(event.pid)
        if process.reason != event.reason:
            self.put(replace(process, reason=event.reason))
        return []

    def _on_evicted(self, event: ev.Evicted) -> list[Effect]:
        process = self.process(event.pid)
        if process.state is State.QUEUED:
            fault = Fault(Cancelled.code, f"Process {event.pid} was ended: {event.reason}")
            ended = self.end(process, event.at, State.EXITED, event.reason)
            return [*ended, *self.fail_calls(process, fault)]
        restart_or_stop = self.restart if event.is_returning else self.stop
        return restart_or_stop(process, event.reason)

    # Attached models.

    def _on_attach_asked(self, event: ev.AttachAsked) -> list[Effect]:
        """Request a model for the process, unless it is attached already."""
        process, runtime = self.process(event.pid), self.runtimes[event.pid]
        if process.state not in CALLED:
            return []  # it requests the model again after its start, or its calls fail with its end
        if event.model in runtime.models and event.model not in runtime.leaving:
            return [do.Attach(event.pid, event.model, runtime.number)]
        request = AttachRequest(event.pid, event.model, event.kind, event.size_bytes, process.spec.device)
        self.attach_requests[event.pid, event.model] = request
        return []

    def _on_attach_granted(self, event: ev.AttachGranted) -> list[Effect]:
        """The model is attached to the process and holds its memory from now on."""
        pid, model = event.pid, event.model
        request, runtime = self.attach_requests.pop((pid, model)), self.runtimes[pid]
        self.ledger.book(Lease(pid, request.device, request.kind, request.size_bytes))
        self.runtimes[pid] = replace(runtime, models={**runtime.models, model: (request.kind, request.size_bytes)})
        return [do.Attach(pid, model, runtime.number)]

    def _on_attach_refused(self, event: ev.AttachRefused) -> list[Effect]:
        self.attach_requests.pop((event.pid, event.model), None)
        return [do.Refuse(event.pid, event.model, event.fault)]

    def _on_displaced(self, event: ev.Displaced) -> list[Effect]:
        """The model is told to go; its memory is free once it has."""
        pid, model = event.pid, event.model
        runtime = self.runtimes[pid]
        if model not in runtime.models or model in runtime.leaving:
            return []  # it has gone, or is about to
        self.runtimes[pid] = replace(runtime, leaving=(*runtime.leaving, model))
        return [do.Detach(pid, model)]

    def detach(self, pid: int, model: str) -> None:
        """Remove a model from the process, if it is attached."""
        runtime = self.runtimes.get(pid)
        if runtime is not None and model in runtime.models:
            kind, size_bytes = runtime.models[model]
            self.ledger.give_back(Lease(pid, self.process(pid).spec.device, kind, size_bytes))
            self.runtimes[pid] = replace(
                runtime,
                models={name: held for name, held in runtime.models.items() if name != model},
                loads={name: took_s for name, took_s in runtime.loads.items() if name != model},
                leaving=tuple(name for name in runtime.leaving if name != model),
            )

    # The gate.

    def _on_gate_policy_changed(self, event: ev.GatePolicyChanged) -> list[Effect]:
        """A policy that is the default is kept only if somebody has chosen it."""
        self.gate_policies.pop(event.name, None)
        if event.is_own or event.policy != DEFAULT_POLICY:
            self.gate_policies[event.name] = event.policy
        return []

    def _on_learn_order_changed(self, event: ev.LearnOrderChanged) -> list[Effect]:
        """An order of no rows is kept for the last row that a training was begun with."""
        self.learn_orders[event.name] = event.order
        return []

    def _on_slo_changed(self, event: ev.SloChanged) -> list[Effect]:
        others = {name: slo for name, slo in self.slos.items() if name != event.slo.name}
        self.slos = {**others, event.slo.name: event.slo} if event.slo.objectives else others
        return []

    # Devices.

    def _on_devices_found(self, event: ev.DevicesFound) -> list[Effect]:
        self.probe_key = event.probe_key
        self._own(event.devices)
        return []

    def _on_probed(self, event: ev.Probed) -> list[Effect]:
        self.probed, self.probed_key = event.devices, self.probe_key
        self._own(self.devices)
        return []

    # The clock and the daemon.

    def _on_timer_fired(self, event: ev.TimerFired) -> list[Effect]:
        """A timer: a backoff is over, or a process has not ended in time."""
        process, runtime = self.process(event.pid), self.runtimes[event.pid]
        if event.life != runtime.number:
            return []
        if event.step == "restart":
            self.runtimes[event.pid] = replace(runtime, is_backing_off=False)
            return []
        return [do.Signal(event.pid, signal.SIGKILL)] if process.state is State.STOPPING else []

    def _on_daemon_started(self, event: ev.DaemonStarted) -> list[Effect]:
        """The children of an earlier daemon ended with it: record that, and finish pending commits."""
        effects: list[Effect] = []
        for process in list(self.processes.values()):
            if process.state in ALIVE:
                if process.os_pid is not None:
                    effects.append(do.KillOrphan(process.os_pid, self.runtimes[process.pid].born_at))
                if self.continues(process) or (event.resumes and self._goes_on(process)):
                    self.queue_again(process, "to be continued: it ended with the daemon")
                    continue
                state = State.INTERRUPTED if self.traits(process).is_resumable else State.EXITED
                on = f"; go on with: llmos resume {process.pid}" if state is State.INTERRUPTED else ""
                effects += self.end(process, event.at, state, f"ended with the daemon{on}")
            elif process.state is State.QUEUED and not self.traits(process).is_resumable:
                effects += self.end(process, event.at, State.EXITED, "ended with the daemon")
            elif event.resumes and process.state is State.INTERRUPTED and self._goes_on(process):
                effects += self._on_resume_asked(ev.ResumeAsked(event.at, process.pid))
        return [*effects, *self.pending_commits.remaining_effects()]

    def _goes_on(self, process: Process) -> bool:
        """Whether the end of the daemon, and no user, has interrupted it, or does now; its parent resumes a child."""
        if process.spec.parent is not None or not self.traits(process).is_resumable:
            return False
        if process.state in (State.INTERRUPTED, State.STOPPING):
            return process.reason.startswith(GOES_DOWN) and not process.reason.startswith(GOES_DOWN_SUSPENDED)
        return process.state is not State.SUSPENDED

    def _on_down_asked(self, event: ev.DownAsked) -> list[Effect]:
        self.is_down = True
        effects: list[Effect] = []
        for process in list(self.processes.values()):
            is_returning = self.runtimes[process.pid].is_returning
            if process.state in ALIVE - {State.STOPPING} or is_returning:
                effects += self.stop(process, GOES_DOWN_SUSPENDED if process.state is State.SUSPENDED else GOES_DOWN)
            elif process.state is State.QUEUED and not self.traits(process).is_resumable:
                effects += self.end(process, event.at, State.EXITED, GOES_DOWN)
                effects += self.fail_calls(process, Fault(Unavailable.code, "The daemon is going down"))
        return effects

    def _own(self, found: Iterable[Device]) -> None:
        """The devices found, with the probe's measurements and the devices that only the probe could see."""
        probed = {device.name: device for device in self.probed} if self.probe_key == self.probed_key else {}
        devices = {device.name: device for device in found}
        for name, known in probed.items():
            present = devices.get(name, known)
            devices[name] = replace(present, gflops=known.gflops, dtype=known.dtype, kernels=known.kernels)
        self.devices = tuple(devices.values())
        self.ledger.own(self.devices, self._share)

    # The life of a process.

    def start(self, process: Process, at: float) -> list[Effect]:
        """Begin a new life: the process holds its footprint, and no models yet."""
        runtime = self.runtimes[process.pid]
        for kind, size_bytes in runtime.needs.items():
            self.ledger.book(Lease(process.pid, process.spec.device, kind, size_bytes))
        self.runtimes[process.pid] = replace(
            without_models(runtime), number=runtime.number + 1, ready_at=None, hung="", is_returning=False
        )
        self.put(process.moved(State.STARTING, started_at=at, os_pid=None, fault=None, reason=""))
        return [do.Start(process.pid)]

    def stop(self, process: Process, reason: str, *, is_forced: bool = False) -> list[Effect]:
        """Ask the process to end, and set the timer for the case that it does not."""
        runtime = self.runtimes[process.pid]
        if process.state is not State.STOPPING:
            self.put(process.moved(State.STOPPING, reason=reason))
        self._drop_attach_requests(process.pid)
        self.runtimes[process.pid] = replace(runtime, is_returning=False)
        if is_forced:
            return [
                do.Signal(process.pid, signal.SIGKILL),
                do.SetTimer(process.pid, runtime.number, "kill", FORCE_AGAIN_S),
            ]
        return [
            do.Signal(process.pid, signal.SIGCONT),  # it may be stopped by a signal, and could not react
            do.Renice(process.pid, Priority.INTERACTIVE),  # an ending process should not wait for CPU time
            do.Stop(process.pid, reason),
            do.SetTimer(process.pid, runtime.number, "kill", self._stop_grace_s),
        ]

    def restart(self, process: Process, reason: str) -> list[Effect]:
        """Ask the process to end and start again; one that is starting or ending already is left alone."""
        if process.state not in (State.STARTING, *CALLED):
            return []
        effects = self.stop(process, reason)
        self.runtimes[process.pid] = replace(self.runtimes[process.pid], is_returning=True)
        return effects

    def continues(self, process: Process) -> bool:
        """Whether it goes on by itself after an end now: no user has stopped or suspended it."""
        is_wished = process.state is State.SUSPENDED or (
            process.state is State.STOPPING and process.reason != GOES_DOWN
        )
        return self.traits(process).continues and not is_wished and not self.is_orphan(process)

    def queue_again(self, process: Process, reason: str) -> None:
        """Release what an ended process holds, and queue it, to go on from its scratch folder."""
        self.release(process.pid)
        self.runtimes[process.pid] = replace(without_models(self.runtimes[process.pid]), is_returning=False)
        self.put(process.moved(State.QUEUED, os_pid=None, exit_code=None, reason=reason))
        self.enqueue(process.pid)

    def end(self, process: Process, at: float, state: State, reason: str) -> list[Effect]:
        """The process is over, or interrupted, and holds nothing any more."""
        self.release(process.pid)
        self.runtimes[process.pid] = replace(
            without_models(self.runtimes[process.pid]), is_backing_off=False, is_returning=False
        )
        self.put(process.moved(state, ended_at=at, os_pid=None, reason=reason))
        if state is not State.EXITED:
            return []
        return [do.Clean(process.pid), *self._end_children(process.pid, at)]

    def _end_children(self, pid: int, at: float) -> list[Effect]:
        """What a process has started ends with it; one that runs exits as soon as it has stopped."""
        effects: list[Effect] = []
        for child in self._children(pid):
            why = f"ended with process {pid}"
            if child.state in ALIVE:
                effects += self.stop(child, why)
            else:
                effects += self.end(child, at, State.EXITED, why)
        return effects

    def is_orphan(self, process: Process) -> bool:
        """Whether the process that started it has exited, so that nothing will resume it."""
        parent = process.spec.parent
        return parent is not None and (parent not in self.processes or self.processes[parent].state is State.EXITED)

    def enqueue(self, pid: int) -> None:
        """Queue the process at the end."""
        last = max(runtime.place for runtime in self.runtimes.values())
        self.runtimes[pid] = replace(self.runtimes[pid], place=last + 1)

    def fail_calls(self, process: Process, fault: Fault) -> list[Effect]:
        """Fail all calls of this serve process, sent or waiting, with the fault."""
        return [do.FailCalls(process.pid, fault)] if self.traits(process).answers_calls else []

    def release(self, pid: int) -> None:
        """Release everything that the process holds, and its attach requests."""
        self.ledger.release(pid)
        self._drop_attach_requests(pid)

    def _drop_attach_requests(self, pid: int) -> None:
        self.attach_requests = {key: request for key, request in self.attach_requests.items() if request.pid != pid}


# Any: each handler takes its own event type
_HANDLERS: dict[type[Event], Callable[[ProcessTable, Any], list[Effect]]] = {
    **child_events.HANDLERS,
    **pending_commits.HANDLERS,
    **rollout_events.HANDLERS,
    **alert_book.HANDLERS,
    ev.Submitted: ProcessTable._on_submitted,
    ev.KillAsked: ProcessTable._on_kill_asked,
    ev.RestartAsked: ProcessTable._on_restart_asked,
    ev.SuspendAsked: ProcessTable._on_suspend_asked,
    ev.ResumeAsked: ProcessTable._on_resume_asked,
    ev.NiceAsked: ProcessTable._on_nice_asked,
    ev.AttachAsked: ProcessTable._on_attach_asked,
    ev.GatePolicyChanged: ProcessTable._on_gate_policy_changed,
    ev.LearnOrderChanged: ProcessTable._on_learn_order_changed,
    ev.SloChanged: ProcessTable._on_slo_changed,
    ev.Admitted: ProcessTable._on_admitted,
    ev.Delayed: ProcessTable._on_delayed,
    ev.Evicted: ProcessTable._on_evicted,
    ev.AttachGranted: ProcessTable._on_attach_granted,
    ev.AttachRefused: ProcessTable._on_attach_refused,
    ev.Displaced: ProcessTable._on_displaced,
    ev.DevicesFound: ProcessTable._on_devices_found,
    ev.Probed: ProcessTable._on_probed,
    ev.TimerFired: ProcessTable._on_timer_fired,
    ev.DaemonStarted: ProcessTable._on_daemon_started,
    ev.DownAsked: ProcessTable._on_down_asked,
}
