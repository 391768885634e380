"""The roster: all processes, what is remembered of each beside what it shows, and the bytes they hold.

It is pure, and changed by the table's events alone.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from llmos.abi.device import Lease, LeaseKind
from llmos.abi.error import Fault, IllegalMove, ProcessNotFound
from llmos.abi.process import Class, Process, Program, State
from llmos.kernel import events as ev
from llmos.kernel.events import Effect
from llmos.kernel.memory import Ledger

RESUMABLE = frozenset({Program.TRAIN, Program.PULL})
ALIVE = frozenset({State.STARTING, State.READY, State.SUSPENDED, State.STOPPING})
TERM_GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class Life:
    """What is remembered of a process beside what it shows."""

    needs: dict[LeaseKind, int]
    number: int = 0  # how often it was started: an alarm of an earlier life means nothing
    born_at: float = 0.0
    ready_at: float | None = None
    crashes: int = 0  # in a row
    is_backing_off: bool = False
    models: dict[str, tuple[LeaseKind, int]] = field(default_factory=dict)


class Roster:
    """Moves processes from state to state, and books and gives back what they hold on the way."""

    def __init__(
        self, processes: Iterable[Process], lives: dict[int, Life], ledger: Ledger, *, stop_grace_s: float
    ) -> None:
        self.processes = {process.pid: process for process in processes}
        self.lives = lives
        self.ledger = ledger
        self._stop_grace_s = stop_grace_s
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
        """What processes that are stopping will give back, by device."""
        leaving: dict[str, int] = {}
        for process in self.processes.values():
            if process.state is State.STOPPING:
                device = process.spec.device
                leaving[device] = leaving.get(device, 0) + self.ledger.held(process.pid, device)
        return leaving

    def may_start(self, process: Process) -> bool:
        return process.state is State.QUEUED and not self.lives[process.pid].is_backing_off

    # From its start to its end.

    def start(self, process: Process, at: float) -> list[Effect]:
        """A new life: it holds what it needs, and no models yet."""
        life = self.lives[process.pid]
        for kind, size_bytes in life.needs.items():
            self.ledger.book(Lease(process.pid, process.spec.device, kind, size_bytes))
        self.lives[process.pid] = replace(life, number=life.number + 1, ready_at=None, models={})
        self.put(process.moved(State.STARTING, started_at=at, os_pid=None, fault=None, reason=""))
        return [ev.Start(process.pid)]

    def attach(self, pid: int, model: str, kind: LeaseKind, size_bytes: int) -> None:
        """The process holds this model too; one that it holds already is counted once."""
        life = self.lives[pid]
        if model not in life.models:
            self.ledger.book(Lease(pid, self.process(pid).spec.device, kind, size_bytes))
            self.lives[pid] = replace(life, models={**life.models, model: (kind, size_bytes)})

    def detach(self, pid: int, model: str) -> None:
        """The process holds this model no more, if it did."""
        life = self.lives.get(pid)
        if life is not None and model in life.models:
            kind, size_bytes = life.models[model]
            self.ledger.give_back(Lease(pid, self.process(pid).spec.device, kind, size_bytes))
            models = {name: held for name, held in life.models.items() if name != model}
            self.lives[pid] = replace(life, models=models)

    def stop(self, process: Process, reason: str, *, is_forced: bool = False) -> list[Effect]:
        """Ask it to end, and set the alarm for when it does not."""
        life = self.lives[process.pid]
        if process.state is not State.STOPPING:
            self.put(process.moved(State.STOPPING, reason=reason))
        wake: list[Effect] = [ev.Signal(process.pid, signal.SIGCONT)] if process.state is State.SUSPENDED else []
        if is_forced:
            return [ev.Signal(process.pid, signal.SIGKILL), ev.Alarm(process.pid, life.number, "kill", TERM_GRACE_S)]
        return [
            *wake,
            ev.Renice(process.pid, Class.INTERACTIVE),  # what must end should not have to wait for its turn
            ev.Stop(process.pid, reason),
            ev.Alarm(process.pid, life.number, "term", self._stop_grace_s),
        ]

    def back_off(self, process: Process, crashes: int, wait_s: float, reason: str) -> list[Effect]:
        """It gives back what it holds and is queued again, to start after a while."""
        life = self.lives[process.pid]
        self.ledger.release(process.pid)
        self.lives[process.pid] = replace(life, crashes=crashes, is_backing_off=True, models={})
        self.put(process.moved(State.QUEUED, os_pid=None, restarts=process.restarts + 1, reason=reason))
        return [ev.Alarm(process.pid, life.number, "restart", wait_s)]

    def end(self, process: Process, at: float, state: State, reason: str) -> list[Effect]:
        """It is over, or interrupted, and holds nothing any more."""
        self.ledger.release(process.pid)
        self.lives[process.pid] = replace(self.lives[process.pid], models={}, is_backing_off=False)
        self.put(process.moved(state, ended_at=at, os_pid=None, reason=reason))
        return [ev.Clean(process.pid)] if state is State.EXITED else []

    def settle(self, process: Process, fault: Fault | None = None) -> list[Effect]:
        """Those whose calls wait for it learn of it."""
        return [ev.Settle(process.pid, fault)] if process.spec.program is Program.SERVE else []

    def rang(self, event: ev.Rang) -> list[Effect]:
        """An alarm: its backoff is over, or it has not ended when it was asked to."""
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
