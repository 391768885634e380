"""A program's declaration: its arguments and their check, footprint, title, priority, and the job of its child."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from llmos.abi.device import Device, LeaseKind
from llmos.abi.engine import DEFAULT
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.model import Manifest
from llmos.abi.process import Priority, Process, Program, Spec
from llmos.abi.recipe import ROW_FILES
from llmos.kernel.processes.footprint import CHILD_BYTES, FootprintFacts
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store

Arguments = Mapping[str, Any]  # Any: a type expression, checked by msgspec
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


class PathRules(Protocol):
    """Which local files a request may name (kernel/paths.py)."""

    def follow(self, source: str) -> str:
        """Resolve an absolute path; a value that is not a path stays. PathNotAllowed for one outside."""
        ...

    def check_inside(self, folder: Path) -> None:
        """Raise PathNotAllowed if anything in this folder leads outside."""
        ...


@dataclass(frozen=True, slots=True)
class AdmissionFacts:
    """The facts that a program's arguments are checked against."""

    store: Store
    engine: str = DEFAULT  # the daemon's default


class Declaration:
    """What the kernel knows about a program. Each program is a subclass that overrides these defaults."""

    name: ClassVar[Program]
    main: ClassVar[str]
    """The module whose `main(channel, job)` runs in the child. The daemon never imports it."""

    arguments: ClassVar[Arguments | None] = None
    """What a client may give, and the type of each; None: only the daemon starts it."""

    operation: ClassVar[str] = ""
    """The name of its route, `POST /v1/datasets/{ref}/NAME`, if it works on the dataset in its argument `data`."""

    model_argument: ClassVar[str] = ""
    """The argument that names a model of the store. It is pinned to a version, and the child gets its files."""

    needs_base: ClassVar[bool] = False
    """That model must be a base."""

    needs_shape: ClassVar[bool] = False
    """Its footprint grows with the layers of its model: `FootprintFacts.shape` is read for it."""

    needs_row_key: ClassVar[bool] = False
    """It reads or makes rows with ids: its job has the home's key for them."""

    starts: ClassVar[frozenset[Program]] = frozenset()
    """The programs that its process may start (kernel/processes/child_requests.py)."""

    calls_routes: ClassVar[bool] = False
    """Its process may call routes of the daemon, as a client does: kernel/calls/route_calls.py."""

    settles: ClassVar[frozenset[str]] = frozenset()
    """The arguments that its process decides itself where they are left to it, and tells the kernel."""

    scope: ClassVar[KeyScope] = KeyScope.TRAIN
    """What a key needs to start it and to steer its processes."""

    default_priority: ClassVar[Priority] = Priority.BATCH
    traits: ClassVar[Traits] = Traits()

    def runs(self, process: Process) -> bool:
        """Whether the process is one of this program."""
        return process.spec.program == self.name

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        """The spec with defaults filled in; raises for arguments that cannot work."""
        return spec

    def check_device(self, spec: Spec, device: Device) -> None:
        """Raise if the program cannot run on this device."""

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        """The bytes of its process, by kind; by default a child that loads no model."""
        return {LeaseKind.WORKSPACE: CHILD_BYTES}

    def beside_bytes(self, spec: Spec, store: Store) -> int:
        """The bytes of other models that it loads beside its own."""
        return 0

    def is_light(self, spec: Spec) -> bool:
        """Whether its child needs no torch: it is then forked from a process that has not imported it."""
        return False

    def title(self, spec: Spec) -> str:
        """One line that tells this process from others in a list."""
        return self.name

    def dtype(self, spec: Spec, model: Manifest | None, floats: str) -> str:
        """The dtype that it computes in; `floats` is the device's default."""
        return floats

    def follow_paths(self, args: dict[str, Json], rules: PathRules) -> dict[str, Json]:
        """The arguments with every file's path resolved; by default those of rows in `data`."""
        data = args.get("data")
        if isinstance(data, str):
            return {**args, "data": rules.follow(data)}
        if isinstance(data, dict):
            return {**args, "data": {**data, **{key: rules.follow(path) for key, path in row_files(data)}}}
        return args

    def follow_up(self, ended: Process, store: Store, processes: Sequence[Process]) -> Spec | int | None:
        """What starts once it has ended well: a new process, or the pid of an interrupted one that goes on."""
        return None

    def models_to_remove(self, ended: Process, store: Store, processes: Sequence[Process]) -> list[str]:
        """The models of the store that nobody needs any more, once it has ended well."""
        return []

    def job(self, job: Job, store: Store, config: Config) -> Job:
        """The child's job, with the models, datasets and daemon settings that it needs."""
        return job


def row_files(data: Mapping[str, Json]) -> list[tuple[str, str]]:
    """The parts of `data` (train, validation, test, unlabelled) that name files or datasets of rows."""
    return [(key, data[key]) for key in ROW_FILES if data.get(key) and isinstance(data[key], str)]


def check_declaration(found: object) -> Declaration:
    """Check a declaration from another package; raises if it is not one."""
    if not isinstance(found, Declaration):
        raise TypeError(f"it must name an instance of {Declaration.__qualname__}, not {type(found).__name__}")
    if not NAME.fullmatch(getattr(found, "name", "")):
        raise ValueError("its name must be small letters, digits and -, at most 32")
    if not getattr(found, "main", ""):
        raise ValueError("its main must be the name of a module")
    if found.traits.answers_calls and found.model_argument != "base":
        raise ValueError("a program that answers calls names its base in the argument `base`")
    if not isinstance(found.traits, Traits):
        raise TypeError(f"its traits must be {Traits.__qualname__}, not {type(found.traits).__name__}")
    return found
