"""Events: everything that changes the kernel's state, and how durably the journal keeps each kind."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from llmos.abi.device import Device, LeaseKind
from llmos.abi.error import Fault
from llmos.abi.model import Offer
from llmos.abi.process import DONE, Priority, Progress, Spec, Usage
from llmos.kernel.programs.traits import Traits


class Durability(IntEnum):
    """How an event lives in the journal."""

    NONE = 0  # not at all: it says how things look just now
    WRITTEN = 1  # written, and safe from a kill of the daemon
    FSYNCED = 2  # synced to the disk before anybody hears of it


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a time (seconds since the epoch)."""

    durability: ClassVar[Durability] = Durability.WRITTEN
    is_quiet: ClassVar[bool] = False  # it says only how things look: nobody can start or must go because of it
    is_fact: ClassVar[bool] = False  # somebody may wait for it, but it comes true even where it cannot be written
    at: float


# Asked by somebody who waits for the outcome.


@dataclass(frozen=True, slots=True)
class Submitted(Event):
    """A process is wanted; its pid is given out by the loop."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    pid: int
    spec: Spec
    needs: dict[LeaseKind, int]
    traits: Traits | None = None  # of its program; None in journals of before


@dataclass(frozen=True, slots=True)
class KillAsked(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    is_fact: ClassVar[bool] = True
    pid: int
    is_forced: bool = False
    reason: str = "stopped by the user"


@dataclass(frozen=True, slots=True)
class RestartAsked(Event):
    """A serve process is to end once its calls are answered, and to start again under its pid."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class SuspendAsked(Event):
    pid: int


@dataclass(frozen=True, slots=True)
class ResumeAsked(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    pid: int


@dataclass(frozen=True, slots=True)
class NiceAsked(Event):
    pid: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class PromotionAsked(Event):
    """The bare name is to mean this version from now on; `ticket` tells apart who asked.

    `back_from` says that this takes the promotion of that version back, rather than adding one.
    """

    durability: ClassVar[Durability] = Durability.FSYNCED
    name: str
    version: int
    ticket: str
    back_from: int | None = None


@dataclass(frozen=True, slots=True)
class AttachAsked(Event):
    """A serve process is to hold one more model of its base, as soon as there is room."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str
    kind: LeaseKind
    size_bytes: int


# Decided by the scheduler.


@dataclass(frozen=True, slots=True)
class Admitted(Event):
    """There is room: this process starts now."""

    pid: int


@dataclass(frozen=True, slots=True)
class Delayed(Event):
    """This process stays queued, and why."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Evicted(Event):
    """A serve process that has no call in hand is to end: others need its memory, or nobody has called it for long.

    It starts again if calls wait for it, behind those that wait for room by now.
    """

    pid: int
    reason: str
    is_returning: bool = False


@dataclass(frozen=True, slots=True)
class AttachGranted(Event):
    """There is room: this model comes to its process now."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str


@dataclass(frozen=True, slots=True)
class AttachRefused(Event):
    """This model cannot come to its process, and why."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Displaced(Event):
    """An idle model is to leave its process: others need its memory."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str
    reason: str


# From the children and their operating system processes.


@dataclass(frozen=True, slots=True)
class Forked(Event):
    """The child exists; `born_at` is its start time, so that its os_pid cannot be mistaken for another's later."""

    pid: int
    os_pid: int
    born_at: float


@dataclass(frozen=True, slots=True)
class StartFailed(Event):
    pid: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class BecameReady(Event):
    pid: int
    weights_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Attached(Event):
    """A model can answer on its process; loading it took so long."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Detached(Event):
    """A model is no longer on its process, or never came to it."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str


@dataclass(frozen=True, slots=True)
class ReniceRefused(Event):
    """The operating system keeps a child below the class that was asked for."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class Progressed(Event):
    is_quiet: ClassVar[bool] = True
    pid: int
    progress: Progress

    @property
    def durability(self) -> Durability:  # type: ignore[override]  # of the others, the kind decides; of this one, what it says
        """How far a process is passes; what came of it, its last word, stays."""
        return Durability.WRITTEN if self.progress.phase == DONE else Durability.NONE


@dataclass(frozen=True, slots=True)
class Metered(Event):
    is_quiet: ClassVar[bool] = True
    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Unresponsive(Event):
    """Nothing was heard of a child, or its loop has stood still, since then."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    os_pid: int
    since: float


@dataclass(frozen=True, slots=True)
class Responsive(Event):
    """It is heard again."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    os_pid: int


@dataclass(frozen=True, slots=True)
class Hung(Event):
    """It has not responded for so long that it is ended, and why."""

    pid: int
    os_pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChildFailed(Event):
    """The child said why it is about to end."""

    pid: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class ChildExited(Event):
    """The operating system process has ended; a negative code is the signal that ended it.

    What was known of it at last is written with its end, for what it used and how far it was pass until then.
    """

    durability: ClassVar[Durability] = Durability.FSYNCED
    pid: int
    os_pid: int
    code: int
    usage: Usage | None = None
    progress: Progress | None = None
    ready_s: float | None = None  # for how long it was ready, by a clock that nobody sets; None: not known
    taking_in: tuple[int, ...] = ()  # the calls that it took in when it ended by its own fault


@dataclass(frozen=True, slots=True)
class DevicesFound(Event):
    """What this machine has, without measurement; `probe_key` says which measurement belongs to it."""

    is_fact: ClassVar[bool] = True
    devices: tuple[Device, ...]
    probe_key: str


@dataclass(frozen=True, slots=True)
class DevicesProbed(Event):
    pid: int
    devices: tuple[Device, ...]


# From the store.


@dataclass(frozen=True, slots=True)
class OfferMade(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    pid: int
    offer: Offer


@dataclass(frozen=True, slots=True)
class Committed(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    pid: int
    offer_id: int
    ref: str
    folder: str


@dataclass(frozen=True, slots=True)
class CommitFailed(Event):
    pid: int
    offer_id: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class PromotionChanged(Event):
    """A name now means this version."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    name: str
    version: int
    ticket: str


@dataclass(frozen=True, slots=True)
class PromotionRefused(Event):
    """A name stayed where it was, and why."""

    name: str
    version: int
    ticket: str
    fault: Fault


# From the clock and the daemon itself.


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """A timer that an Alarm effect set has rung; an old one (its `life` is over) means nothing."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    life: int
    step: str


@dataclass(frozen=True, slots=True)
class DaemonStarted(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    is_fact: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DownAsked(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    is_fact: ClassVar[bool] = True


EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
