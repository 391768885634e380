"""Programs and processes: the kinds of work, one run of it, its states and the legal transitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isfinite
from typing import Any, NewType

from llmos.abi.error import Fault
from llmos.abi.json_type import Json

DONE = "done"  # the phase of a process's last report, with its result
PAUSED = "paused"  # the phase of the last report of one that ends with a checkpoint, to be resumed when it is wanted
SERVING = "serving"  # the phase of a process that answers calls
WAITING = "waits"  # the phase of one that is to go on, until it says how it does


Program = NewType("Program", str)
"""The name of what runs. The set is open: see llmos/kernel/programs."""


class Priority(StrEnum):
    """The scheduling priority: interactive before batch before background."""

    INTERACTIVE = "interactive"
    BATCH = "batch"
    BACKGROUND = "background"


class State(StrEnum):
    """The state of a process."""

    QUEUED = "queued"
    STARTING = "starting"
    READY = "ready"
    SUSPENDED = "suspended"
    STOPPING = "stopping"
    INTERRUPTED = "interrupted"
    EXITED = "exited"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.STARTING, State.INTERRUPTED, State.EXITED}),
    State.STARTING: frozenset({State.READY, State.STOPPING, State.INTERRUPTED, State.QUEUED, State.EXITED}),
    State.READY: frozenset({State.SUSPENDED, State.STOPPING, State.INTERRUPTED, State.QUEUED, State.EXITED}),
    State.SUSPENDED: frozenset({State.READY, State.STOPPING, State.INTERRUPTED, State.QUEUED, State.EXITED}),
    State.STOPPING: frozenset({State.QUEUED, State.INTERRUPTED, State.EXITED}),
    State.INTERRUPTED: frozenset({State.QUEUED, State.EXITED}),  # queued: `resume` continues from the checkpoint
    State.EXITED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run: the program, its arguments (program-specific JSON), its priority and its footprint in bytes.

    `parent` is the pid of the process that asked for it; None: a user or the daemon.
    """

    program: Program
    args: dict[str, Json] = field(default_factory=dict)
    title: str = ""
    priority: Priority = Priority.BATCH
    device: str = "cpu0"
    need_bytes: int = 0
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A process's progress: `done` of `total` `unit`s in `phase`, with figures.

    A trainer's figures: loss, rate (examples/s), eta_s, metric. A puller's: rate (bytes/s), eta_s. A generative serve
    process's: those of `engines/pytorch/generation_scheduler.py`. Figures that are not finite are left out, because
    JSON cannot represent them.
    """

    phase: str
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    message: str = ""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # of figures that have one, at 95 %

    def __post_init__(self) -> None:
        if not (isfinite(self.done) and isfinite(self.total)):
            raise ValueError(f"{self.done} of {self.total} is no progress")  # msgspec turns it into a decode error
        if not all(map(isfinite, self.figures.values())):
            finite = {name: value for name, value in self.figures.items() if isfinite(value)}
            object.__setattr__(self, "figures", finite)

    @property
    def waiting(self) -> Progress:
        """How far a process was that is to go on and does nothing yet, without what it said of speed and results."""
        return Progress(WAITING, self.done, self.total, self.unit)


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that a process has used so far, as its operating system process measured them."""

    cpu_s: float = 0.0
    rss_bytes: int = 0
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """One run of a program, as the kernel sees it. Times are seconds since the epoch."""

    pid: int
    spec: Spec
    state: State = State.QUEUED
    os_pid: int | None = None
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    fault: Fault | None = None
    restarts: int = 0
    progress: Progress | None = None
    usage: Usage = Usage()
    made: tuple[str, ...] = ()  # refs of what was committed for it
    unresponsive_since: float | None = None  # since then there is no heartbeat, or its loop stands still
    reason: str = ""  # the reason for its state: queued for memory, stopped by a user, the gate's verdict ...

    def moved(self, to: State, **changes: Any) -> Process:  # Any: other fields of this class, checked by replace
        assert to in TRANSITIONS[self.state], f"pid {self.pid}: {self.state} -> {to} is not a legal move"
        return replace(self, state=to, **{"unresponsive_since": None, **changes})

    @property
    def is_ended(self) -> bool:
        return self.state in (State.EXITED, State.INTERRUPTED)


def of_program(processes: Iterable[Process], program: str) -> list[Process]:
    """Those that run this program, in their order: for the part that such a process belongs to."""
    return [process for process in processes if process.spec.program == program]
