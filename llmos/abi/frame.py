"""The frames that daemon and child exchange over the child's unix socket.

Down: Assignment first and once, then Attach, Detach, Ask, Cancel, Accepted, Stop. Up: Ready once, then Answer,
Computed, TakesIn, TakenIn, Attached, AttachFailed, Detached, Report, Offered, Failed, Spent, Probed; and a Beat every
second. A child that sees the socket end ends itself at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmos.abi.call import Call, Chunk
from llmos.abi.device import Device
from llmos.abi.error import Fault
from llmos.abi.gate import DEFAULT_POLICY, GatePolicy
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest, Offer
from llmos.abi.process import Program, Progress, Usage


@dataclass(frozen=True, slots=True)
class ModelPath:
    """A manifest and where its files lie: `folder` holds them under their paths, read-only; `resident` too, once made.

    `base` is the located base a model stands on.
    """

    manifest: Manifest
    folder: str
    resident: str | None = None
    base: ModelPath | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What a child is to do: its program, arguments, device, and the only folder it may write to."""

    pid: int
    program: Program
    args: dict[str, Json]
    scratch: str
    device: str = "cpu0"
    dtype: str = "float32"
    threads: int = 0  # 0: as many as the device has cores
    models: dict[str, ModelPath] = field(default_factory=dict)  # every model the arguments name, by the name they use
    datasets: dict[str, str] = field(default_factory=dict)  # every dataset they name -> its folder, read-only
    roots: tuple[str, ...] = ()  # folders below which files that a request names lie; none: anywhere
    cpu_kernels: str = "auto"  # which instructions its loops may use: abi/cpu.py
    main: str = ""  # the module whose `main(channel, job)` it runs; empty: the program's own of llmos/programs
    is_ready_when_it_says: bool = False  # else as soon as it starts
    gate: GatePolicy = DEFAULT_POLICY  # of the name that a new model gets


@dataclass(frozen=True, slots=True)
class Attach:
    """Make this model answerable; the calls that name it come after."""

    model: ModelPath


@dataclass(frozen=True, slots=True)
class Detach:
    """Forget this model (`name:version`) once its calls in hand are answered."""

    model: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A call to answer; of one that `is_alone`, sent without others, it is said when it has been taken in."""

    call: Call
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this call any more."""

    call_id: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The offer is committed: the ref it got and the folder where it now lies; or the fault that stopped it."""

    offer_id: int
    ref: str = ""
    folder: str = ""
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish what is in hand, then end; a trainer writes a checkpoint first."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """The child has loaded what it needs; `weights_bytes` of it are shared, mapped weights."""

    weights_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TakesIn:
    """Where this process notes which calls it is taking in: see abi/note.py."""

    os_pid: int
    fd: int


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A call that was sent alone has been taken in, and the process lives."""

    call_id: int


@dataclass(frozen=True, slots=True)
class Chunks:
    """Pieces of answers to calls, several at a time when a batch finishes."""

    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Computed:
    """So much of a large call is done, from 0 to 1; its answer comes when all is."""

    call_id: int
    share: float


@dataclass(frozen=True, slots=True)
class Attached:
    """The model (`name:version`) is answerable; loading it took so long."""

    model: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Detached:
    """The model is forgotten, and its bytes are free."""

    model: str


@dataclass(frozen=True, slots=True)
class AttachFailed:
    """The model could not be attached: calls that name it get this fault."""

    model: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Report:
    """How far the child is."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class Offered:
    """Files for the store; the child waits for Accepted."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class Failed:
    """The child ends because of this; its exit follows."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What the child has used so far."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Probed:
    """What the probe program found."""

    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """The heartbeat of a child: for how long its loop has been at one step, and for how long of that the process has
    neither computed nor read from a disk."""

    stuck_s: float = 0.0
    still_s: float = 0.0


ToChild = Job | Attach | Detach | Ask | Cancel | Accepted | Stop
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
    | Failed
    | UsageReport
    | Probed
    | Beat
)
