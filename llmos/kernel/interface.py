"""The kernel's interface for the API, in three parts: processes, models and calls. llmos/testing has one in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from llmos.abi.api_types import DiskUse, ModelView, Status, StreamEvent, Verified
from llmos.abi.call import CallRequest, Chunk
from llmos.abi.device import Device
from llmos.abi.histogram import Histogram
from llmos.abi.model import DatasetManifest
from llmos.abi.process import Priority, Process, Spec

__all__ = [
    "CallsInterface",
    "DiskUse",
    "KernelInterface",
    "ModelView",
    "ModelsInterface",
    "ProcessesInterface",
    "Status",
    "StreamEvent",
    "Verified",
]


class ProcessesInterface(Protocol):
    """What runs: started, listed, signalled, and watched."""

    async def submit(self, spec: Spec) -> Process:
        """Queue a process; BadInput at once for arguments that cannot work (unknown base, missing file, bad name)."""
        ...

    def all(self) -> list[Process]: ...
    def get(self, pid: int) -> Process: ...
    async def kill(self, pid: int, *, force: bool = False) -> Process:
        """Stop a process (a trainer checkpoints first); `force` sends SIGKILL. An interrupted one is given up."""
        ...

    async def suspend(self, pid: int) -> Process: ...
    async def resume(self, pid: int) -> Process:
        """Go on with a suspended process, or queue an interrupted one again from its checkpoint."""
        ...

    async def nice(self, pid: int, priority: Priority) -> Process: ...
    async def log(self, pid: int, *, tail_lines: int | None = None) -> str: ...
    def follow_log(self, pid: int, *, tail_lines: int | None = None) -> AsyncGenerator[str, None]:
        """The log from its start or its last lines, and on as it grows, until the process has ended."""
        ...

    def watch(self, pid: int | None = None) -> AsyncGenerator[StreamEvent, None]:
        """What happens from now on, to one process or to all; for one, first its present state, and it ends with it."""
        ...


class ModelsInterface(Protocol):
    """What the store holds: models, datasets, and the disk that all of it lies on."""

    def all(self) -> list[ModelView]: ...
    def get(self, ref: str) -> ModelView:
        """To look at: by `name` (the promoted version, else the newest) or `name:version`; ModelNotFound otherwise."""
        ...

    def file(self, ref: str, path: str) -> str:
        """Where a file of a model lies on disk (its evaluation page, for one); NotFound otherwise."""
        ...

    async def promote(self, ref: str) -> ModelView: ...
    async def rollback(self, name: str) -> ModelView:
        """Back to the version promoted before this one; Conflict if there is none."""
        ...

    async def remove(self, ref: str) -> list[str]:
        """Forget a version, or a whole name; Conflict while another model stands on it. Returns the refs removed."""
        ...

    def datasets(self) -> list[DatasetManifest]: ...
    def dataset(self, ref: str) -> DatasetManifest: ...
    async def remove_dataset(self, ref: str) -> list[str]: ...
    async def collect(self) -> int:
        """Garbage collection; returns the bytes freed."""
        ...

    async def disk_use(self) -> DiskUse: ...
    async def verify(self) -> Verified:
        """Read every byte of the store and compare it with its digest, whatever was proven before."""
        ...


class CallsInterface(Protocol):
    """Calls to models."""

    def task_of(self, model: str) -> str:
        """The task that a call to this name or ref does if it names none; raises as `ref` does."""
        ...

    def ref(self, model: str) -> str:
        """The version (`name:version`) that a call to this name or ref goes to now; ModelNotFound otherwise.

        A bare name means its promoted version; Conflict, with the candidates, where none is.
        """
        ...

    async def answer(self, request: CallRequest) -> Chunk:
        """The whole answer; raises whatever is wrong, or TimedOut. Whoever waits no longer cancels the call."""
        ...

    def stream(self, request: CallRequest) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces, as they are made. Raises before the first one; closing the iterator cancels the call.

        The last piece is there within the request's `timeout_s`, or TimedOut is raised.
        """
        ...

    @property
    def queue_times(self) -> Histogram:
        """How long calls waited until a serve process was given them, since the daemon's start."""
        ...


class KernelInterface(Protocol):
    """Everything the api does goes through here. Methods raise the errors of abi/error.py."""

    @property
    def processes(self) -> ProcessesInterface: ...
    @property
    def models(self) -> ModelsInterface: ...
    @property
    def calls(self) -> CallsInterface: ...
    def devices(self) -> list[Device]: ...
    def status(self) -> Status: ...
