"""The roster: processes, their runtime state and the bytes they hold; moves them between states.

It is pure, and changed by the table's events alone.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from llmos.abi.device import Lease, LeaseKind
from llmos.abi.error import Fault, IllegalMove, ProcessNotFound
from llmos.abi.process import Priority, Process, Program, State
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.effects import Effect
from llmos.kernel.processes.eviction import EvictionCandidate, IdleTarget
from llmos.kernel.processes.ledger import Ledger
from llmos.kernel.processes.scheduler import RANK, AttachRequest
from llmos.kernel.processes.turns import Crowd, Holding

RESUMABLE = frozenset({Program.TRAIN, Program.PULL})
CALLED = frozenset({State.READY, State.SUSPENDED})  # a serve process that has its base
ALIVE = frozenset({State.STARTING, State.READY, State.SUSPENDED, State.STOPPING})
FORCE_AGAIN_S = 3.0  # what was to be ended by force while it was being born is there by then


@dataclass(frozen=True, slots=True)
class ProcessRuntime:
    """What is remembered of a process beside what it shows."""

    needs: dict[LeaseKind, int]
    number: int = 0  # how often it was started: an alarm of an earlier life means nothing
    born_at: float = 0.0
    ready_at: float | None = None
    crashes: int = 0  # in a row
    is_backing_off: bool = False
    models: dict[str, tuple[LeaseKind, int]] = field(default_factory=dict)
    loads: dict[str, float] = field(default_factory=dict)  # of these models: the seconds that loading took, once it has
    hung: str = ""  # why it was ended, if it was because it did not respond
    leaving: tuple[str, ...] = ()  # of these models: those that were told to go
    is_returning: bool = False  # once it has stopped it starts again, and its calls wait for that
    place: int = 0  # in the queue of those that wait to start: whoever is queued again stands behind the others


class Roster:
    """Moves processes from state to state, and books and gives back what they hold on the way."""

    def __init__(
        self, processes: Iterable[Process], lives: dict[int, ProcessRuntime], ledger: Ledger, *, stop_grace_s: float
    ) -> None:
        self.processes = {process.pid: process for process in processes}
        self.lives = lives
        self.ledger = ledger
        self._stop_grace_s = stop_grace_s
        self.attach_requests: dict[tuple[int, str], AttachRequest] = {}  # for models that wait for room
        self._changed: dict[int, None] = {}

    def process(self, pid: int) -> Process:
        if pid not in self.processes:
            raise ProcessNotFound(f"No process {pid}. See what there is: llmos ps --all", pid=pid)
        return self.processes[pid]

    def check_state(self, pid: int, verb: str, allowed: frozenset[State]) -> None:
        process = self.process(pid)
        if process.state not in allowed:
            raise IllegalMove(
                f"Cannot {verb} process {pid}: it is {process.state}. That is possible while it is "
                f"{' or '.join(sorted(allowed))}",
                pid=pid,
                state=process.state,
            )

    def put(self, process: Process) -> None:
        """The process is like this from now on."""
        self.processes[process.pid] = process
        self._changed[process.pid] = None

    def drain_changes(self) -> list[Process]:
        """The processes that changed since the last time this was asked."""
        changed = [self.processes[pid] for pid in self._changed]
        self._changed.clear()
        return changed

    def leaving_bytes(self) -> dict[str, int]:
        """What processes and models that were told to go will give back, by device."""
        leaving: dict[str, int] = {}
        for process in self.processes.values():
            if process.state not in ALIVE:
                continue
            device, runtime = process.spec.device, self.lives[process.pid]
            if process.state is State.STOPPING:
                size_bytes = self.ledger.held(process.pid, device)
            else:
                size_bytes = sum(runtime.models[model][1] for model in runtime.leaving)
            leaving[device] = leaving.get(device, 0) + size_bytes
        return leaving

    def idle(self, rests: Iterable[IdleTarget]) -> list[EvictionCandidate]:
        """What of all that no call needs may go: ready processes, and models that have come and are to stay."""
        found = []
        for rest in rests:
            process, runtime = self.process(rest.pid), self.lives[rest.pid]
            if process.state is not State.READY:
                continue
            device = process.spec.device
            if rest.model is None:
                size_bytes = self.ledger.held(rest.pid, device)
                reload_s = self._start_s(process) + sum(runtime.loads.values())
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

    def in_use_bytes(self, idle: Iterable[EvictionCandidate]) -> dict[str, int]:
        """What models hold that stay and are not idle, by device."""
        resting = {(one.pid, one.model) for one in idle}
        found: dict[str, int] = {}
        for process in self.processes.values():
            if process.state not in CALLED or (process.pid, None) in resting:
                continue
            runtime, device = self.lives[process.pid], process.spec.device
            for model, (_, size_bytes) in runtime.models.items():
                if model not in runtime.leaving and (process.pid, model) not in resting:
                    found[device] = found.get(device, 0) + size_bytes
        return found

    def queued(self) -> list[Process]:
        """Those that may start, in the order in which they were queued."""
        found = [p for p in self.processes.values() if p.state is State.QUEUED and not self.lives[p.pid].is_backing_off]
        return sorted(found, key=lambda p: (self.lives[p.pid].place, p.pid))

    def line_up(self, pid: int) -> None:
        """It is queued behind all others."""
        last = max(runtime.place for runtime in self.lives.values())
        self.lives[pid] = replace(self.lives[pid], place=last + 1)

    def crowd(self) -> Crowd:
        """The serve processes that wait for memory, in the order in which the scheduler starts them, and those that
        hold it."""
        leaving = self.leaving_bytes()
        missing = {
            p.pid: p.spec.need_bytes - self.ledger.free(p.spec.device) - leaving.get(p.spec.device, 0)
            for p in sorted(self.queued(), key=lambda p: RANK[p.spec.priority])
            if p.spec.program is Program.SERVE
        }
        holding = {
            p.pid: Holding(self.ledger.held(p.pid, p.spec.device), self._start_s(p))
            for p in self.processes.values()
            if p.spec.program is Program.SERVE and p.state is State.READY
        }
        return Crowd(missing, holding)

    def _start_s(self, process: Process) -> float:
        """What loading its base took, as far as is known."""
        ready_at, started_at = self.lives[process.pid].ready_at, process.started_at
        return 0.0 if ready_at is None or started_at is None else max(0.0, ready_at - started_at)

    # From its start to its end.

    def start(self, process: Process, at: float) -> list[Effect]:
        """A new life: it holds what it needs, and no models yet."""
        runtime = self.lives[process.pid]
        for kind, size_bytes in runtime.needs.items():
            self.ledger.book(Lease(process.pid, process.spec.device, kind, size_bytes))
        self.lives[process.pid] = replace(
            _without_models(runtime), number=runtime.number + 1, ready_at=None, hung="", is_returning=False
        )
        self.put(process.moved(State.STARTING, started_at=at, os_pid=None, fault=None, reason=""))
        return [do.Start(process.pid)]

    def weigh(self, process: Process, weights_bytes: int) -> Process:
        """The weights it loaded are so big, whatever was estimated: it holds that, and needs it at its next start."""
        runtime = self.lives[process.pid]
        more = weights_bytes - runtime.needs.get(LeaseKind.WEIGHTS, 0)
        difference = Lease(process.pid, process.spec.device, LeaseKind.WEIGHTS, abs(more))
        if more > 0:
            self.ledger.book(difference)  # it has the bytes already, so the account may be overdrawn
        else:
            self.ledger.give_back(difference)
        self.lives[process.pid] = replace(runtime, needs={**runtime.needs, LeaseKind.WEIGHTS: weights_bytes})
        return replace(process, spec=replace(process.spec, need_bytes=process.spec.need_bytes + more))

    def request(self, event: ev.AttachAsked) -> list[Effect]:
        """The process is to hold this model too: at once if it holds it already, else when there is room."""
        process, runtime = self.process(event.pid), self.lives[event.pid]
        if process.state not in CALLED:
            return []  # it asks again at its next start, or answers its calls with its end
        if event.model in runtime.models and event.model not in runtime.leaving:
            return [do.Attach(event.pid, event.model, runtime.number)]
        request = AttachRequest(event.pid, event.model, event.kind, event.size_bytes, process.spec.device)
        self.attach_requests[event.pid, event.model] = request
        return []

    def open_attach_requests(
        self, wanted: Collection[tuple[int, str]], yielding: Collection[int] = ()
    ) -> list[AttachRequest]:
        """Those that may be granted, and whether anybody waits for them still; none of processes that give way."""
        return [
            replace(request, is_wanted=key in wanted)
            for key, request in self.attach_requests.items()
            if request.model not in self.lives[request.pid].models and request.pid not in yielding
        ]

    def grant(self, pid: int, model: str) -> list[Effect]:
        """The model comes to the process, which holds its bytes from now on."""
        request, runtime = self.attach_requests.pop((pid, model)), self.lives[pid]
        self.ledger.book(Lease(pid, request.device, request.kind, request.size_bytes))
        self.lives[pid] = replace(runtime, models={**runtime.models, model: (request.kind, request.size_bytes)})
        return [do.Attach(pid, model, runtime.number)]

    def refuse(self, pid: int, model: str, fault: Fault) -> list[Effect]:
        self.attach_requests.pop((pid, model), None)
        return [do.Refuse(pid, model, fault)]

    def attached(self, pid: int, model: str, took_s: float) -> None:
        """The model has come: what it took is what giving it up would cost."""
        runtime = self.lives[pid]
        if model in runtime.models:
            self.lives[pid] = replace(runtime, loads={**runtime.loads, model: took_s})

    def displace(self, pid: int, model: str) -> list[Effect]:
        """The model is told to go; its bytes come free when it has."""
        runtime = self.lives[pid]
        if model not in runtime.models or model in runtime.leaving:
            return []  # it has gone already, or is about to
        self.lives[pid] = replace(runtime, leaving=(*runtime.leaving, model))
        return [do.Detach(pid, model)]

    def detach(self, pid: int, model: str) -> None:
        """The process holds this model no more, if it did."""
        runtime = self.lives.get(pid)
        if runtime is not None and model in runtime.models:
            kind, size_bytes = runtime.models[model]
            self.ledger.give_back(Lease(pid, self.process(pid).spec.device, kind, size_bytes))
            self.lives[pid] = replace(
                runtime,
                models={name: held for name, held in runtime.models.items() if name != model},
                loads={name: took_s for name, took_s in runtime.loads.items() if name != model},
                leaving=tuple(name for name in runtime.leaving if name != model),
            )

    def stop(self, process: Process, reason: str, *, is_forced: bool = False) -> list[Effect]:
        """Ask it to end, and set the alarm for when it does not."""
        runtime = self.lives[process.pid]
        if process.state is not State.STOPPING:
            self.put(process.moved(State.STOPPING, reason=reason))
        self._drop_attach_requests(process.pid)
        self.lives[process.pid] = replace(runtime, is_returning=False)
        if is_forced:
            return [
                do.Signal(process.pid, signal.SIGKILL),
                do.SetTimer(process.pid, runtime.number, "kill", FORCE_AGAIN_S),
            ]
        return [
            do.Signal(process.pid, signal.SIGCONT),  # whoever has stopped it: else it could not hear what comes next
            do.Renice(process.pid, Priority.INTERACTIVE),  # what must end should not have to wait for its turn
            do.Stop(process.pid, reason),
            do.SetTimer(process.pid, runtime.number, "kill", self._stop_grace_s),
        ]

    def restart(self, process: Process, reason: str) -> list[Effect]:
        """Ask it to end, to start again afterwards; one that is about to start or to end is left to it."""
        if process.state not in (State.STARTING, *CALLED):
            return []
        effects = self.stop(process, reason)
        self.lives[process.pid] = replace(self.lives[process.pid], is_returning=True)
        return effects

    def back_off(self, process: Process, crashes: int, wait_s: float, reason: str) -> list[Effect]:
        """It gives back what it holds and is queued again, to start after a while."""
        runtime = self.lives[process.pid]
        self._let_go(process.pid)
        self.lives[process.pid] = replace(
            _without_models(runtime), crashes=crashes, is_backing_off=True, is_returning=False
        )
        self.put(process.moved(State.QUEUED, os_pid=None, restarts=process.restarts + 1, reason=reason))
        self.line_up(process.pid)
        return [do.SetTimer(process.pid, runtime.number, "restart", wait_s)]

    def end(self, process: Process, at: float, state: State, reason: str) -> list[Effect]:
        """It is over, or interrupted, and holds nothing any more."""
        self._let_go(process.pid)
        self.lives[process.pid] = replace(
            _without_models(self.lives[process.pid]), is_backing_off=False, is_returning=False
        )
        self.put(process.moved(state, ended_at=at, os_pid=None, reason=reason))
        return [do.Clean(process.pid)] if state is State.EXITED else []

    def release_calls(self, process: Process) -> list[Effect]:
        """Calls that wait for this serve process are sent."""
        return [do.ReleaseCalls(process.pid)] if process.spec.program is Program.SERVE else []

    def fail_calls(self, process: Process, fault: Fault) -> list[Effect]:
        """Calls of this serve process, sent or waiting, are answered with the fault."""
        return [do.FailCalls(process.pid, fault)] if process.spec.program is Program.SERVE else []

    def rang(self, event: ev.TimerFired) -> list[Effect]:
        """An alarm: its backoff is over, or it has not ended when it was asked to."""
        process, runtime = self.process(event.pid), self.lives[event.pid]
        if event.life != runtime.number:
            return []
        if event.step == "restart":
            self.lives[event.pid] = replace(runtime, is_backing_off=False)
            return []
        return [do.Signal(event.pid, signal.SIGKILL)] if process.state is State.STOPPING else []

    def _let_go(self, pid: int) -> None:
        self.ledger.release(pid)
        self._drop_attach_requests(pid)

    def _drop_attach_requests(self, pid: int) -> None:
        self.attach_requests = {key: request for key, request in self.attach_requests.items() if request.pid != pid}


def _without_models(runtime: ProcessRuntime) -> ProcessRuntime:
    return replace(runtime, models={}, loads={}, leaving=())
