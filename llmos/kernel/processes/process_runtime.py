"""The process table's internal state of each process, beside what it shows; and the snapshot in the journal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from llmos.abi.device import Device, Lease, LeaseKind
from llmos.abi.gate import GatePolicy
from llmos.abi.learning import LearnOrder
from llmos.abi.process import Process, State
from llmos.abi.rollout import Rollout
from llmos.abi.slo import Slo
from llmos.kernel.alerts.alert_book import AlertBook
from llmos.kernel.processes.pending_commits import PendingCommits
from llmos.kernel.programs.traits import Traits

CALLED = frozenset({State.READY, State.SUSPENDED})  # the states of a serve process that has its base
ALIVE = frozenset({State.STARTING, State.READY, State.SUSPENDED, State.STOPPING})


@dataclass(frozen=True, slots=True)
class ProcessRuntime:
    """The internal state of a process."""

    needs: dict[LeaseKind, int]
    number: int = 0  # how often it was started: timers of an earlier life are ignored
    born_at: float = 0.0
    ready_at: float | None = None
    crashes: int = 0  # consecutive crashes
    is_backing_off: bool = False
    models: dict[str, tuple[LeaseKind, int]] = field(default_factory=dict)
    # attached models, with the seconds that loading took once it is done
    loads: dict[str, float] = field(default_factory=dict)
    hung: str = ""  # why it was killed, if it did not respond
    leaving: tuple[str, ...] = ()  # attached models that were told to go
    is_returning: bool = False  # it starts again once it has stopped, and its calls wait for that
    place: int = 0  # in the start queue: a process that is queued again goes to the end
    traits: Traits | None = None  # its program's traits at submission; None in old journals


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole table as the journal stores it, with the stored names."""

    processes: tuple[Process, ...] = ()
    lives: dict[int, ProcessRuntime] = field(default_factory=dict)
    leases: tuple[Lease, ...] = ()
    devices: tuple[Device, ...] = ()
    probed: tuple[Device, ...] = ()
    probe_key: str = ""
    probed_key: str = ""
    promises: PendingCommits = field(default_factory=PendingCommits)
    last_pid: int = 0
    gate_policies: dict[str, GatePolicy] = field(default_factory=dict)  # of names that have one of their own
    learn_orders: dict[str, LearnOrder] = field(default_factory=dict)
    slos: dict[str, Slo] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)  # under way, by name
    ended_rollouts: dict[str, tuple[Rollout, ...]] = field(default_factory=dict)  # by name, the newest first
    alert_book: AlertBook = field(default_factory=AlertBook)


def without_models(runtime: ProcessRuntime) -> ProcessRuntime:
    return replace(runtime, models={}, loads={}, leaving=())
