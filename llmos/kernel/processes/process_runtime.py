"""What the process table remembers of each process beside what it shows; and its snapshot, as the journal keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from llmos.abi.device import Device, Lease, LeaseKind
from llmos.abi.process import Process, State
from llmos.kernel.processes.pending_commits import PendingCommits
from llmos.kernel.programs.traits import Traits

CALLED = frozenset({State.READY, State.SUSPENDED})  # a serve process that has its base
ALIVE = frozenset({State.STARTING, State.READY, State.SUSPENDED, State.STOPPING})


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
    traits: Traits | None = None  # of its program, as it was submitted; None in journals of before


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole table as the journal keeps it, under the names that are written there."""

    processes: tuple[Process, ...] = ()
    lives: dict[int, ProcessRuntime] = field(default_factory=dict)
    leases: tuple[Lease, ...] = ()
    devices: tuple[Device, ...] = ()
    probed: tuple[Device, ...] = ()
    probe_key: str = ""
    probed_key: str = ""
    promises: PendingCommits = field(default_factory=PendingCommits)
    last_pid: int = 0


def without_models(runtime: ProcessRuntime) -> ProcessRuntime:
    return replace(runtime, models={}, loads={}, leaving=())
