"""Files with a purpose for the API: received whole, kept until they are removed, in the folder of uploads."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from llmos.abi.error import Conflict, UploadNotFound
from llmos.abi.upload import FILE_PREFIX, Upload, upload_id
from llmos.kernel.store.uploads import Uploads
from llmos.kernel.store.whole_file import LinkedFile, WholeFile

WRITERS = 2  # threads
T = TypeVar("T")


class FileService:
    """Receives, lists and removes files. `in_use` gives the ids of uploads that processes name."""

    def __init__(
        self, uploads: Uploads, in_use: Callable[[], Collection[str]], clock: Callable[[], float] = time.time
    ) -> None:
        self._uploads = uploads
        self._in_use = in_use
        self._clock = clock
        self._threads = ThreadPoolExecutor(WRITERS, "files")

    def all(self) -> list[Upload]:
        """Every file that has a purpose, the oldest first."""
        return [one for one in self._uploads.all() if one.purpose]

    def get(self, file_id: str) -> Upload:
        """The file with this id (`file-...`); UploadNotFound otherwise."""
        found = next((one for one in self.all() if one.file_id == file_id), None)
        if found is None:
            raise UploadNotFound(f"No file {file_id[:80]!r}: it was removed, or its time is over", file=file_id[:80])
        return found

    def path(self, file_id: str) -> Path:
        """Where its bytes are."""
        return self._uploads.file(self.get(file_id).id)

    async def begin(self) -> WholeFile:
        """A draft, to be written, then kept or discarded."""
        return await self._beside(self._uploads.draft)

    async def write(self, draft: WholeFile, data: bytes) -> None:
        """Write these bytes behind the others; TooLong or DiskFull if they do not fit."""
        await self._beside(draft.write, data)

    async def keep(self, draft: WholeFile, name: str, purpose: str, lifetime_s: float = 0.0) -> Upload:
        """The file of a draft; durable when this returns. With a `lifetime_s`, it is removed after that."""

        def work() -> Upload:
            expires_at = self._clock() + lifetime_s if lifetime_s else 0.0
            try:
                draft.finish()
                return self._uploads.adopt(draft, name, purpose, expires_at)
            finally:
                draft.discard()

        return await self._beside(work)

    async def adopt(self, source: Path, name: str, purpose: str, id: str) -> Upload:
        """A file of the home that does not change any more, as the upload of this id, if that is not there already."""

        def work() -> Upload:
            draft = LinkedFile(source, self._uploads.folder)
            try:
                draft.finish()
                return self._uploads.adopt(draft, name, purpose, id=id)
            finally:
                draft.discard()

        return await self._beside(work)

    async def keep_upload(self, source: str, purpose: str) -> Upload:
        """A file of the bytes of `upload:ID`, which goes as it would; Conflict while it is not complete."""
        self._uploads.follow(source)
        upload = self._uploads.get(upload_id(source))
        return await self.adopt(self._uploads.file(upload.id), upload.name, purpose, "")

    async def discard(self, draft: WholeFile) -> None:
        """Remove a draft that is not kept."""
        await self._beside(draft.discard)

    async def remove(self, file_id: str) -> Upload:
        """Remove a file; Conflict while a process uses it."""
        upload = self.get(file_id)
        if upload.id in self._in_use():
            said = f"{file_id} is used by a process. Wait for its end, or stop it: llmos ps"
            raise Conflict(said, file=file_id, reason="in_use")
        return await self._beside(self._uploads.remove, upload.id)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False)

    async def _beside(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(work, *args))


def upload_of(file_id: str) -> str:
    """How arguments of processes name a file: `upload:ID`."""
    return f"upload:{file_id.removeprefix(FILE_PREFIX)}"
