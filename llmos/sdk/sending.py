"""Sending a file in parts: the next request, what its answer means, and after which errors it goes on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from llmos.abi.error import BadInput, Busy, Conflict, LlmosError, TooSlow, Unavailable
from llmos.abi.upload import Upload
from llmos.abi.wire import from_plain
from llmos.sdk.request import Request

PART_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
MOST_FAILURES = 7  # one after another, without a byte between: waits of 0.25 s to 16 s, half a minute in all
FIRST_WAIT_S = 0.25
T = TypeVar("T")
ROUTE = "/v1/uploads"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine, read once for its digest."""

    path: Path
    name: str
    size_bytes: int
    changed_ns: int
    sha256: str

    def find_in(self, uploads: Sequence[Upload]) -> Upload | None:
        """The upload of these very bytes under this name that is the furthest, if there is one."""
        wanted = (self.name, self.size_bytes, self.sha256)
        same = [one for one in uploads if (one.name, one.size_bytes, one.sha256) == wanted]
        return max(same, key=lambda one: one.offset, default=None)

    def part(self, offset: int) -> bytes:
        """The bytes from this offset on, at most PART_BYTES; BadInput if the file was changed meanwhile."""
        with _reading(self.path) as file:
            now = os.fstat(file.fileno())
            file.seek(offset)
            part = file.read(PART_BYTES)
        if (now.st_size, now.st_mtime_ns) != (self.size_bytes, self.changed_ns):
            raise BadInput(
                f"{self.path} was changed while it was being sent. Send it again when nothing writes to it",
                file=str(self.path),
                reason="changed",
            )
        return part


def read_file(path: str | Path, name: str | None = None) -> LocalFile:
    """Read a file that is to be sent; BadInput if there is none. `name` is what it is called there."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise BadInput(f"{path} is a folder. Send the files in it one by one", file=str(path), reason="folder")
    with _reading(path) as file:
        found = os.fstat(file.fileno())
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return LocalFile(path, name or path.absolute().name, found.st_size, found.st_mtime_ns, digest.hexdigest())


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """The open file; BadInput if it cannot be read."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        said = f"{path} cannot be read: {error.strerror or error}. Give the path of a file that is there"
        raise BadInput(said, file=str(path)) from error


class Sending:
    """A file on its way. Each request is a part, or after an error the question how much is there."""

    def __init__(self, file: LocalFile, upload: Upload) -> None:
        self.upload = upload
        self._file = file
        self._failures = 0
        self._is_unsure = False

    def next(self) -> Request[Upload] | None:
        """The next request; None when all bytes are there."""
        if self.upload.is_complete:
            return None
        if self._is_unsure:
            return show_upload(self.upload.id)
        offset = self.upload.offset
        return append(self.upload.id, offset, self._file.part(offset))

    def take(self, answer: Upload) -> None:
        """The answer to the last request."""
        if answer.offset > self.upload.offset:
            self._failures = 0
        self.upload, self._is_unsure = answer, False

    def wait_s(self, error: LlmosError) -> float:
        """How long to wait after this error before the next request; it is raised if that would not help."""
        is_offset = isinstance(error, Conflict) and error.detail.get("reason") == "offset"
        is_passing = isinstance(error, Busy | TooSlow | Unavailable) or error.detail.get("reason") == "busy"
        if self._failures >= MOST_FAILURES or not (is_offset or is_passing):
            raise error
        wait_s = FIRST_WAIT_S * 2**self._failures
        self._failures += 1
        self._is_unsure = True
        return 0.0 if is_offset else wait_s


def list_uploads() -> Request[list[Upload]]:
    return Request("GET", ROUTE, lambda answer: from_plain(answer["data"], list[Upload]))


def show_upload(name: str) -> Request[Upload]:
    return Request("GET", f"{ROUTE}/{name}", lambda answer: from_plain(answer, Upload))


def create_upload(file: LocalFile) -> Request[Upload]:
    body = {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}
    return Request("POST", ROUTE, lambda answer: from_plain(answer, Upload), body)


def remove_upload(name: str) -> Request[list[str]]:
    return Request("DELETE", f"{ROUTE}/{name}", lambda answer: list(answer["removed"]))


def append(name: str, offset: int, part: bytes) -> Request[Upload]:
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return Request("PATCH", f"{ROUTE}/{name}", lambda answer: from_plain(answer, Upload), content=part, headers=headers)


# What the two clients do in different ways; tools/sync_client.py puts the second of each in the place of the first.


async def in_thread(work: Callable[[], T]) -> T:
    """Do this beside the event loop: it reads a file."""
    return await asyncio.to_thread(work)


def at_once(work: Callable[[], T]) -> T:
    return work()


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def sleep(seconds: float) -> None:
    time.sleep(seconds)
