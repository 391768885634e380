"""The frames that daemon and child exchange over the child's unix socket.

To the child: Job first and once, then Attach, Detach, Ask, Cancel, Accepted, Replied, RouteReplied, ChildChanged, Stop.
From the child: Ready once, then Chunks, Computed, TakesIn, TakenIn, Attached, AttachFailed, Detached, Report, Offered,
Requested, RouteCalled, Failed, UsageReport, Probed; and a Beat every second. A child whose socket closes ends itself at
once. What a child reports has the name of the kernel's event (kernel/events.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from llmos.abi.call import Call, Chunk
from llmos.abi.device import Device
from llmos.abi.error import Fault
from llmos.abi.gate import DEFAULT_POLICY, GatePolicy
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest, Manifest, Offer
from llmos.abi.monitoring import DriftAlarm, MonitoredVersion, ObservedInput
from llmos.abi.process import Process, Program, Progress, Usage


@dataclass(frozen=True, slots=True)
class ModelPath:
    """A manifest and its files' place: `folder` has them under their paths, read-only; `resident` too, once made.

    `base` is the ModelPath of a model's base.
    """

    manifest: Manifest
    folder: str
    resident: str | None = None
    base: ModelPath | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A child's job: its program, arguments, device, and the only folder that it may write to."""

    pid: int
    program: Program
    args: dict[str, Json]
    scratch: str
    device: str = "cpu0"
    dtype: str = "float32"
    threads: int = 0  # 0: one per core of the device
    models: dict[str, ModelPath] = field(default_factory=dict)  # every model in the arguments, by the name used there
    datasets: dict[str, str] = field(default_factory=dict)  # every dataset in the arguments -> its folder, read-only
    checks: dict[str, str] = field(default_factory=dict)  # every such dataset -> the folder of its check's report
    roots: tuple[str, ...] = ()  # the folders that requested files must be below; empty: anywhere
    cpu_kernels: str = "auto"  # the CPU path of its kernels: abi/cpu.py
    main: str = ""  # the module whose `main(channel, job)` runs; empty: the program's own in llmos/programs
    is_ready_when_it_says: bool = False  # false: it counts as ready as soon as it starts
    gate: GatePolicy = DEFAULT_POLICY  # of the name that a new model gets
    manifests: dict[str, DatasetManifest] = field(default_factory=dict)  # of every dataset in the arguments
    row_key: str = field(default="", repr=False)  # the home's key for ids of rows, in hexadecimal; a secret
    is_light: bool = False  # its program imports no torch
    uploads: str = ""  # the folder of uploaded files: abi/upload.py
    tracks: str = ""  # the machine's folder for what trackers write; a trainer may write there too


@dataclass(frozen=True, slots=True)
class Attach:
    """Attach this model; calls that name it follow."""

    model: ModelPath


@dataclass(frozen=True, slots=True)
class Detach:
    """Detach this model (`name:version`) once its calls in progress are answered."""

    model: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A call to answer. If it `is_alone`, no other is sent before the child replies TakenIn."""

    call: Call
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel this call."""

    call_id: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The offer is committed, with its ref and folder; or it failed with the fault."""

    offer_id: int
    ref: str = ""
    folder: str = ""
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Replied:
    """The outcome of a request: the processes that it is about, or the fault."""

    request_id: int
    processes: tuple[Process, ...] = ()
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class RouteReplied:
    """What a route has answered, as an HTTP client would read it."""

    request_id: int
    status: int
    body: bytes
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class CallsSeen:
    """What was noted of calls to a monitored version since the last time: how many, and a sample of their inputs."""

    version: MonitoredVersion
    calls: int
    inputs: tuple[ObservedInput, ...]


@dataclass(frozen=True, slots=True)
class ModelReplied:
    """What a model has answered to a monitor: an output for each input, with its tokens as in `Chunk`; or the fault."""

    request_id: int
    outputs: tuple[Json, ...] = ()
    sizes: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class ChildChanged:
    """A process that this one has started is in another state, or has reported."""

    process: Process


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish the work in progress, then end; a trainer writes a checkpoint first."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """The child has loaded what it needs; `weights_bytes` of it are shared, mapped weights."""

    weights_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TakesIn:
    """Where this process notes the calls it is taking in: see abi/note.py."""

    os_pid: int
    fd: int


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A call that was sent alone is taken in, and the process lives."""

    call_id: int


@dataclass(frozen=True, slots=True)
class Chunks:
    """Chunks of calls, several at a time when a batch finishes."""

    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Computed:
    """The finished share of a large call, from 0 to 1."""

    call_id: int
    share: float


@dataclass(frozen=True, slots=True)
class Attached:
    """The model (`name:version`) can answer; `load_s` is how long loading took."""

    model: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Detached:
    """The model is detached, and its memory is free."""

    model: str


@dataclass(frozen=True, slots=True)
class AttachFailed:
    """The model could not be attached: calls that name it get this fault."""

    model: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Report:
    """The child's progress."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class Offered:
    """Files for the store; the child waits for Accepted."""

    offer: Offer


class Act(StrEnum):
    """What a process may ask the kernel to do for it."""

    SUBMIT = "submit"  # start another program, whose parent it is
    RESUME = "resume"  # continue an interrupted or suspended one of its own, with these arguments changed
    KILL = "kill"  # stop one of its own, or give up an interrupted one
    LIST = "list"  # all its own
    SETTLE = "settle"  # note what it has decided itself: `args` replace its own arguments, and it holds less memory


@dataclass(frozen=True, slots=True)
class Requested:
    """A process asks the kernel for an act on processes of its own; Replied follows.

    `program`, `args` and `title` are of the one to start, `pid` is one that it has started. SETTLE is about itself.
    """

    request_id: int
    act: Act
    program: str = ""
    args: dict[str, Json] = field(default_factory=dict)
    title: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class RouteCalled:
    """A process calls a route of the daemon with a JSON body, as a client would; RouteReplied follows.

    Only programs may that declare it (`calls_routes`).
    """

    request_id: int
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class CallsWanted:
    """A monitor waits for so many calls to its version; CallsSeen follows once they were noted."""

    least: int


@dataclass(frozen=True, slots=True)
class ModelAsked:
    """A monitor asks a model, in the background class; ModelReplied follows."""

    request_id: int
    model: str
    task: str
    inputs: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class DriftFound:
    """A monitor's alarm has begun, or has ended."""

    alarm: DriftAlarm


@dataclass(frozen=True, slots=True)
class Failed:
    """The child ends because of this fault; its exit follows."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The resources that the child has used so far."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Probed:
    """The probe program's findings."""

    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """The heartbeat of a child.

    It says how long its loop has been at one step, and how much of that without CPU time or disk reads.
    """

    stuck_s: float = 0.0
    still_s: float = 0.0


ToChild = (
    Job
    | Attach
    | Detach
    | Ask
    | Cancel
    | Accepted
    | Replied
    | RouteReplied
    | CallsSeen
    | ModelReplied
    | ChildChanged
    | Stop
)
FromChild = (
    Ready
    | TakesIn
    | TakenIn
    | Chunks
    | Computed
    | Attached
    | AttachFailed
    | Detached
    | Report
    | Offered
    | Requested
    | RouteCalled
    | CallsWanted
    | ModelAsked
    | DriftFound
    | Failed
    | UsageReport
    | Probed
    | Beat
)
