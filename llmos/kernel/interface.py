"""The kernel's interface for the API. kernel.py implements it; llmos/testing has one in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from llmos.abi.api_types import DiskUse, ModelView, Status, StreamEvent, Verified
from llmos.abi.call import Chunk
from llmos.abi.device import Device
from llmos.abi.histogram import Histogram
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest
from llmos.abi.process import Priority, Process, Spec

__all__ = ["DiskUse", "KernelInterface", "ModelView", "Status", "StreamEvent", "Verified"]


class KernelInterface(Protocol):
    """Everything the api does goes through here. Methods raise the errors of abi/error.py."""

    async def submit(self, spec: Spec) -> Process:
        """Queue a process; BadInput at once for arguments that cannot work (unknown base, missing file, bad name)."""
        ...

    def processes(self) -> list[Process]: ...
    def process(self, pid: int) -> Process: ...
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

    def ref(self, model: str) -> str:
        """The version (`name:version`) that a call to this name or ref goes to now; ModelNotFound otherwise.

        A bare name means its promoted version; Conflict, with the candidates, where none is.
        """
        ...

    async def answer(
        self,
        model: str,
        task: str | None,
        inputs: list[Json],
        params: dict[str, Json],
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        engine: str | None = None,
    ) -> Chunk:
        """The whole answer of a model (name or ref), by this engine or its own; raises whatever is wrong.

        It is there within `timeout_s`, or TimedOut is raised. Whoever waits no longer cancels the call.
        """
        ...

    def stream(
        self,
        model: str,
        task: str | None,
        inputs: list[Json],
        params: dict[str, Json],
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        engine: str | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """The same in pieces, as they are made. Raises before the first one; closing the iterator cancels the call.

        The last piece is there within `timeout_s`, or TimedOut is raised.
        """
        ...

    def models(self) -> list[ModelView]: ...
    def model(self, ref: str) -> ModelView:
        """To look at: by `name` (the promoted version, else the newest) or `name:version`; ModelNotFound otherwise."""
        ...

    def model_file(self, ref: str, path: str) -> str:
        """Where a file of a model lies on disk (its evaluation page, for one); NotFound otherwise."""
        ...

    async def promote(self, ref: str) -> ModelView: ...
    async def rollback(self, name: str) -> ModelView:
        """Back to the version promoted before this one; Conflict if there is none."""
        ...

    async def remove(self, ref: str) -> list[str]:
        """Forget a version, or a whole name; Conflict while another model stands on it. Returns the refs removed."""
        ...

    async def collect(self) -> int:
        """Garbage collection; returns the bytes freed."""
        ...

    async def disk_use(self) -> DiskUse: ...
    async def verify(self) -> Verified:
        """Read every byte of the store and compare it with its digest, whatever was proven before."""
        ...

    def datasets(self) -> list[DatasetManifest]: ...
    def dataset(self, ref: str) -> DatasetManifest: ...
    async def remove_dataset(self, ref: str) -> list[str]: ...
    def devices(self) -> list[Device]: ...
    def status(self) -> Status: ...
    def queue_times(self) -> Histogram:
        """How long calls waited until a serve process was given them, since the daemon's start."""
        ...
