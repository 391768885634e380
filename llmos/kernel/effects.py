"""Effects: what the loop decided to do about an event, as plain values that the executor carries out.

Effects that can fail (Start, Stop, Attach, Detach, Commit, SetPromoted) end in exactly one event each, also when they
fail. The others are messages whose receiver may be gone, which is not a failure.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmos.abi.error import Fault
from llmos.abi.model import Offer
from llmos.abi.process import Priority


@dataclass(frozen=True, slots=True)
class Start:
    """Fork a child for this process; ends in Forked or StartFailed."""

    pid: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask a child to finish; ends in ChildExited, if needed after the signals that its timers bring."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Send an operating system signal to a child, if it is still there."""

    pid: int
    number: int


@dataclass(frozen=True, slots=True)
class Renice:
    """Set the scheduling priority of a child's threads."""

    pid: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire a timer after this many seconds."""

    pid: int
    life: int
    step: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Commit:
    """Put an offer into the store; ends in Committed or CommitFailed. `born` is when its process was submitted."""

    pid: int
    offer: Offer
    born: float = 0.0


@dataclass(frozen=True, slots=True)
class Accept:
    """Tell a child the outcome of its offer."""

    pid: int
    offer_id: int
    ref: str = ""
    folder: str = ""
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class SetPromoted:
    """Promote a version; ends in PromotionChanged or PromotionRefused.

    `guarded` promotes only if the name still means `against` (None: nothing), with which the gate compared. `answer` is
    the Accept that waits for the outcome.
    """

    name: str
    version: int
    ticket: str
    guarded: bool = False
    against: str | None = None
    answer: Accept | None = None
    back_from: int | None = None


@dataclass(frozen=True, slots=True)
class ReleaseCalls:
    """The serve process is ready: send it the queued calls."""

    pid: int


@dataclass(frozen=True, slots=True)
class FailCalls:
    """The serve process has ended for good: fail all its calls with the fault."""

    pid: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Attach:
    """Attach a model to a process in this life of it; ends in Attached or Detached."""

    pid: int
    model: str
    life: int


@dataclass(frozen=True, slots=True)
class Detach:
    """Detach a model from a process; ends in Detached, or with the process."""

    pid: int
    model: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Fail the calls that wait for a model on this process."""

    pid: int
    model: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Clean:
    """Remove a process's scratch folder."""

    pid: int


@dataclass(frozen=True, slots=True)
class KillOrphan:
    """Kill an operating system process left by an earlier daemon, if it is still the same one."""

    os_pid: int
    born_at: float


Effect = (
    Start
    | Stop
    | Signal
    | Renice
    | SetTimer
    | Commit
    | Accept
    | SetPromoted
    | ReleaseCalls
    | FailCalls
    | Attach
    | Detach
    | Refuse
    | Clean
    | KillOrphan
)
