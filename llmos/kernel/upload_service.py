"""Uploads for the API: the folder of uploads, written in threads, beside what the processes say that they use."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from llmos.abi.error import Conflict
from llmos.abi.upload import Upload
from llmos.kernel.store.uploads import UploadPart, Uploads

WRITERS = 4  # threads: they wait for the disk, and no other work of the daemon waits for them
WRITE_BYTES = 1024 * 1024  # gathered before they are written
T = TypeVar("T")


class UploadService:
    """Receives, lists and removes uploaded files. `in_use` gives the ids that processes name."""

    def __init__(self, uploads: Uploads, in_use: Callable[[], Collection[str]]) -> None:
        self._uploads = uploads
        self._in_use = in_use
        self._threads = ThreadPoolExecutor(WRITERS, "uploads")

    @property
    def most_bytes(self) -> int:
        """The largest file that may be uploaded."""
        return self._uploads.limits.most_bytes

    def all(self) -> list[Upload]:
        return self._uploads.all()

    def get(self, name: str) -> Upload:
        return self._uploads.get(name)

    async def create(self, name: str, size_bytes: int, sha256: str = "") -> Upload:
        return await self._beside(self._uploads.create, name, size_bytes, sha256)

    async def append(self, name: str, offset: int, pieces: AsyncIterator[bytes]) -> Upload:
        part = await self._beside(self._uploads.append, name, offset)
        waiting = bytearray()
        failure: BaseException | None = None
        try:
            async for piece in pieces:
                waiting += piece
                if len(waiting) >= WRITE_BYTES:
                    whole = bytes(waiting)
                    waiting.clear()
                    await self._beside(part.write, whole)
        except BaseException as error:  # also a client that left: what came before is kept
            failure = error
            raise
        finally:
            await asyncio.shield(self._beside(_end, part, bytes(waiting), failure))
        return self._uploads.get(name)

    async def remove(self, name: str) -> Upload:
        upload = self._uploads.get(name)
        if name in self._in_use():
            said = f"{upload.ref} is used by a process. Wait for its end, or stop it: llmos ps"
            raise Conflict(said, upload=name, reason="in_use")
        return await self._beside(self._uploads.remove, name)

    async def sweep(self) -> list[Upload]:
        """Remove files whose time is over; returns them."""
        in_use = self._in_use()
        return await self._beside(self._uploads.sweep, in_use)

    def close(self) -> None:
        """Begin nothing more; what is being written is written."""
        self._threads.shutdown(wait=False)

    async def _beside(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(work, *args))


def _end(part: UploadPart, rest: bytes, failure: BaseException | None) -> None:
    """Write what is left of a part, and make it durable; the part's own failure is not replaced by another."""
    try:
        if rest and not isinstance(failure, OSError):
            part.write(rest)
    except BaseException as error:
        part.__exit__(type(error), error, None)
        if failure is None:
            raise
    else:
        part.__exit__(None if failure is None else type(failure), failure, None)
