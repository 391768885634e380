"""Effects: what the loop decided to do about an event, as plain values that the executor carries out.

Those that can fail (Start, Stop, Attach, Detach, Commit, Move) end in exactly one event each, also when they fail; the
others are messages to somebody who may be gone already, which is no failure.
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
    """Ask a child to finish; ends in ChildExited, if need be by the signals that its alarms bring."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Send an operating system signal to a child, if it is still there."""

    pid: int
    number: int


@dataclass(frozen=True, slots=True)
class Renice:
    """Give a child's threads the operating system's scheduling policy of this class."""

    pid: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Ring after so many seconds."""

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
    """Tell a child what became of its offer."""

    pid: int
    offer_id: int
    ref: str = ""
    folder: str = ""
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class SetPromoted:
    """Let a name mean a version; ends in Moved or MoveRefused.

    `guarded` moves only if the name still means `against` (None: nothing), for that is what the gate compared with.
    `answer` is the Accept that waits for the outcome.
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
    """The serve process is ready: send it the calls that wait for it."""

    pid: int


@dataclass(frozen=True, slots=True)
class FailCalls:
    """The serve process has ended for good: answer all its calls with the fault."""

    pid: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Attach:
    """Bring a model to a process, if that still lives its life of this number; ends in Attached or Detached."""

    pid: int
    model: str
    life: int


@dataclass(frozen=True, slots=True)
class Detach:
    """Take a model away from a process; ends in Detached, or with the process."""

    pid: int
    model: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Calls that wait for a model on this process get the fault."""

    pid: int
    model: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Clean:
    """Remove a process's scratch folder."""

    pid: int


@dataclass(frozen=True, slots=True)
class KillOrphan:
    """End an operating system process that an earlier daemon left, if it is still the same one."""

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
