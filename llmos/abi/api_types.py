"""Types that the HTTP API and its clients share: models, status, disk usage, events."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from llmos.abi.device import Device, Lease
from llmos.abi.json_type import Json
from llmos.abi.model import File, Kind, Manifest
from llmos.abi.process import Process
from llmos.abi.wire import from_plain, to_plain


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event as API clients see it: a process changed or progressed, a model was made or promoted ..."""

    sequence: int
    at: float
    kind: str  # process, progress, model, promoted, removed, device, log
    pid: int | None = None
    process: Process | None = None
    data: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelView:
    """A manifest with what the store knows about its name."""

    manifest: Manifest
    is_promoted: bool
    is_attached: bool = False
    engine: str = ""  # the engine that answers a call by default
    capabilities: tuple[str, ...] = ()
    rollout: str = ""  # what it is in the rollout under way


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon at a glance."""

    version: str
    os_pid: int
    home: str
    started_at: float
    rss_bytes: int
    is_warm: bool  # the zygote has finished its imports, so that children start by fork
    devices: tuple[Device, ...] = ()
    leases: tuple[Lease, ...] = ()
    free_bytes: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    processes: dict[str, int] = field(default_factory=dict)  # state -> count
    # model -> how often it was loaded for calls since the daemon's start
    wakes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DiskUse:
    """The bytes per part of the store, and what garbage collection would free."""

    blobs_bytes: int
    resident_bytes: int
    datasets_bytes: int
    scratch_bytes: int
    downloads_bytes: int
    evaluations_bytes: int
    logs_bytes: int
    reclaimable_bytes: int
    free_bytes: int
    uploads_bytes: int = 0
    asked_bytes: int = 0
    vectors_bytes: int = 0


@dataclass(frozen=True, slots=True)
class JournalSnapshot:
    """The snapshot that the daemon of this home has just written beside its journal, for a backup."""

    home: str
    taken_at: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Damaged files of a model, dataset or resident form.

    `hint` is the command that repairs it; empty if nothing is left to do, or if `message` says what to do.
    """

    ref: str
    path: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of reading every byte of the store."""

    files: int
    read_bytes: int
    damages: tuple[Damage, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """One version in the store, flat: its manifest, and what the store knows about its name.

    `metrics` are those of the evidence, the primary one first; `capabilities` are what a call may use (abi/capability).
    """

    ref: str
    name: str
    version: int
    kind: Kind
    task: str
    promoted: bool
    attached: bool
    metrics: dict[str, Json]
    size_bytes: int
    base: str | None = None
    base_digest: str | None = None
    method: str | None = None
    architecture: str = ""
    labels: tuple[str, ...] = ()
    options: dict[str, Json] = field(default_factory=dict)
    evidence: dict[str, Json] = field(default_factory=dict)
    lineage: dict[str, Json] = field(default_factory=dict)
    license: str = ""
    source: str = ""
    created_at: str = ""
    dtype: str = ""
    engine: str = ""
    capabilities: tuple[str, ...] = ()
    # of a base that chats: the results of its chat template's trials
    template: dict[str, Json] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    # what it is in the rollout under way: "candidate, canary 10%"
    rollout: str = ""


def model_of(view: ModelView) -> Model:
    """The flat form of a version."""
    manifest = view.manifest
    return Model(
        ref=manifest.ref,
        promoted=view.is_promoted,
        attached=view.is_attached,
        engine=view.engine,
        capabilities=view.capabilities,
        rollout=view.rollout,
        metrics=manifest.evidence.get("metrics", {}),
        size_bytes=manifest.size_bytes,
        **{f.name: getattr(manifest, f.name) for f in fields(manifest)},
    )


def process_json(process: Process) -> dict[str, Json]:
    """A process as JSON. `spec.class` repeats `spec.priority`, for clients that know the earlier name."""
    plain: dict[str, Json] = to_plain(process)
    plain["spec"]["class"] = plain["spec"]["priority"]
    return plain


def process_of(plain: dict[str, Json]) -> Process:
    """The process in the JSON of `process_json`."""
    spec = dict(plain["spec"])
    spec["priority"] = spec.pop("class")
    return from_plain({**plain, "spec": spec}, Process)


def stream_event_json(stream_event: StreamEvent) -> dict[str, Json]:
    """A stream event as JSON."""
    plain: dict[str, Json] = to_plain(stream_event)
    return plain if stream_event.process is None else plain | {"process": process_json(stream_event.process)}


def stream_event_of(plain: dict[str, Json]) -> StreamEvent:
    """The stream event in the JSON of `stream_event_json`."""
    process = process_of(plain["process"]) if plain.get("process") else None
    found = from_plain({**plain, "process": None}, StreamEvent)
    return StreamEvent(found.sequence, found.at, found.kind, found.pid, process, found.data)
