"""Events: everything that changes the kernel's state, and how durably the journal keeps each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import ClassVar, get_args

from llmos.abi.device import Device, LeaseKind
from llmos.abi.error import Fault
from llmos.abi.frame import FromChild
from llmos.abi.gate import GatePolicy
from llmos.abi.json_type import Json
from llmos.abi.learning import LearnOrder
from llmos.abi.model import Offer
from llmos.abi.process import DONE, PAUSED, Priority, Progress, Spec, Usage
from llmos.abi.slo import Slo
from llmos.kernel.alerts.alert_book import AlertAcknowledged as AlertAcknowledged
from llmos.kernel.alerts.alert_book import AlertChanged as AlertChanged
from llmos.kernel.alerts.alert_book import AlertDeliveryEnded as AlertDeliveryEnded
from llmos.kernel.alerts.alert_book import AlertDeliveryTried as AlertDeliveryTried
from llmos.kernel.alerts.alert_book import AlertSilenced as AlertSilenced
from llmos.kernel.alerts.alert_book import AlertSilenceEnded as AlertSilenceEnded
from llmos.kernel.event import Durability as Durability
from llmos.kernel.event import Event as Event
from llmos.kernel.programs.traits import Traits
from llmos.kernel.rollouts.rollout_events import RolloutCounted as RolloutCounted
from llmos.kernel.rollouts.rollout_events import RolloutDecided as RolloutDecided
from llmos.kernel.rollouts.rollout_events import RolloutStarted as RolloutStarted
from llmos.kernel.rollouts.rollout_events import RolloutStopped as RolloutStopped

# Requests whose caller waits for the outcome.


@dataclass(frozen=True, slots=True)
class Submitted(Event):
    """A process is requested; the loop assigns its pid."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    pid: int
    spec: Spec
    needs: dict[LeaseKind, int]
    traits: Traits | None = None  # its program's traits; None in old journals


@dataclass(frozen=True, slots=True)
class KillAsked(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    is_fact: ClassVar[bool] = True
    pid: int
    is_forced: bool = False
    reason: str = "stopped by the user"


@dataclass(frozen=True, slots=True)
class RestartAsked(Event):
    """A serve process must answer its calls and then restart under its pid."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class SuspendAsked(Event):
    pid: int


@dataclass(frozen=True, slots=True)
class ResumeAsked(Event):
    """Continue a process; `args` replace those of these names, where the process that started it asks.

    `title` is what it is called then; empty: as before.
    """

    durability: ClassVar[Durability] = Durability.FSYNCED
    pid: int
    args: dict[str, Json] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True, slots=True)
class Settled(Event):
    """A process has decided arguments that were left to it: `args` are theirs, `needs` its footprint from now on."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    pid: int
    args: dict[str, Json]
    needs: dict[LeaseKind, int]


@dataclass(frozen=True, slots=True)
class NiceAsked(Event):
    pid: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class PromotionAsked(Event):
    """A request to promote a version; `ticket` identifies the caller.

    With `back_from`, it undoes the promotion of that version instead of adding one.
    """

    durability: ClassVar[Durability] = Durability.FSYNCED
    name: str
    version: int
    ticket: str
    back_from: int | None = None


@dataclass(frozen=True, slots=True)
class GatePolicyChanged(Event):
    """New versions of this name must meet this policy from now on; `is_own` if somebody has chosen it."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    name: str
    policy: GatePolicy
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class LearnOrderChanged(Event):
    """This name learns by this order from now on; one of no rows ends it."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    name: str
    order: LearnOrder


@dataclass(frozen=True, slots=True)
class SloChanged(Event):
    """This name has these objectives from now on; an SLO without any ends it."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    slo: Slo


@dataclass(frozen=True, slots=True)
class AttachAsked(Event):
    """A request to attach one more model to a serve process, as soon as there is memory."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str
    kind: LeaseKind
    size_bytes: int


# Decisions of the scheduler.


@dataclass(frozen=True, slots=True)
class Admitted(Event):
    """There is memory: this process starts now."""

    pid: int


@dataclass(frozen=True, slots=True)
class Delayed(Event):
    """This process stays queued, with the reason."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Evicted(Event):
    """A serve process without calls in progress must end, because others need its memory or it was idle for long.

    If calls wait for it, it queues again, behind those that wait for memory now.
    """

    pid: int
    reason: str
    is_returning: bool = False


@dataclass(frozen=True, slots=True)
class AttachGranted(Event):
    """There is memory: this model is attached now."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str


@dataclass(frozen=True, slots=True)
class AttachRefused(Event):
    """This model cannot be attached, with the reason."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Displaced(Event):
    """An idle model is detached, because others need its memory."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str
    reason: str


# Reports of children and their operating system processes. What a child reports has the name and fields of its frame.


@dataclass(frozen=True, slots=True)
class Forked(Event):
    """The child exists; with `born_at`, its start time, its os_pid cannot be mistaken for a later one's."""

    pid: int
    os_pid: int
    born_at: float


@dataclass(frozen=True, slots=True)
class StartFailed(Event):
    pid: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Ready(Event):
    pid: int
    weights_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Attached(Event):
    """A model can answer on its process; `load_s` is how long it took."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Detached(Event):
    """A model was detached, or could not be attached."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    model: str


@dataclass(frozen=True, slots=True)
class ReniceRefused(Event):
    """The operating system keeps a child below the requested priority."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class Report(Event):
    is_quiet: ClassVar[bool] = True
    pid: int
    progress: Progress

    @property
    def durability(self) -> Durability:  # type: ignore[override]  # of the others, the kind decides; of this one, what it says
        """NONE for progress, WRITTEN for the last report, which is kept."""
        return Durability.WRITTEN if self.progress.phase in (DONE, PAUSED) else Durability.NONE


@dataclass(frozen=True, slots=True)
class UsageReport(Event):
    is_quiet: ClassVar[bool] = True
    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Unresponsive(Event):
    """Since then a child has sent nothing, or its loop has not moved."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    os_pid: int
    since: float


@dataclass(frozen=True, slots=True)
class Responsive(Event):
    """The child responds again."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    os_pid: int


@dataclass(frozen=True, slots=True)
class Hung(Event):
    """The child has not responded for too long and is killed, with the reason."""

    pid: int
    os_pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The child reported why it ends."""

    pid: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class ChildExited(Event):
    """The operating system process has ended; a negative code is the signal.

    Its last usage and progress are stored with this event, because reports before it are not.
    """

    durability: ClassVar[Durability] = Durability.FSYNCED
    pid: int
    os_pid: int
    code: int
    usage: Usage | None = None
    progress: Progress | None = None
    ready_s: float | None = None  # how long it was ready, by a monotonic clock; None: unknown
    taking_in: tuple[int, ...] = ()  # the calls that it was taking in when it crashed


@dataclass(frozen=True, slots=True)
class DevicesFound(Event):
    """The machine's devices, unmeasured; `probe_key` says which measurement applies to them."""

    is_fact: ClassVar[bool] = True
    devices: tuple[Device, ...]
    probe_key: str


@dataclass(frozen=True, slots=True)
class Probed(Event):
    pid: int
    devices: tuple[Device, ...]


# Reports of the store.


@dataclass(frozen=True, slots=True)
class Offered(Event):
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
    """A promotion was refused, with the reason."""

    name: str
    version: int
    ticket: str
    fault: Fault


# From the clock and the daemon itself.


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """A timer of a SetTimer effect has fired; one of an earlier `life` is ignored."""

    durability: ClassVar[Durability] = Durability.NONE
    pid: int
    life: int
    step: str


@dataclass(frozen=True, slots=True)
class DaemonStarted(Event):
    """`resumes`: what the end of the earlier daemon interrupted goes on, as the setting `resume_at_start` says."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    is_fact: ClassVar[bool] = True
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class DownAsked(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    is_fact: ClassVar[bool] = True


EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
OF_FRAMES: dict[type, Callable[..., Event]] = {
    frame: EVENTS[frame.__name__] for frame in get_args(FromChild) if frame.__name__ in EVENTS
}


def reported_event(at: float, pid: int, frame: FromChild) -> Event | None:
    """The event of a frame's name, with its fields; None for a frame that changes nothing in the table."""
    kind = OF_FRAMES.get(type(frame))
    return None if kind is None else kind(at, pid, *(getattr(frame, one.name) for one in fields(frame)))
