"""A file that is written from its beginning to its end, of a size that nobody knows before: counted, digested, bounded.

It lies under a temporary name until it is adopted (kernel/store/uploads.py). A start removes what nobody adopted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from llmos.kernel.store import disk

CHUNK_BYTES = 1024 * 1024


class WholeFile:
    """A draft in this folder.

    `check` gets the size that it would have, and raises if that is too large. `release` is called when it has been
    adopted or discarded.
    """

    def __init__(
        self,
        folder: Path,
        check: Callable[[int], None] = lambda size_bytes: None,
        release: Callable[[], object] = lambda: None,
    ) -> None:
        self.path = disk.temporary(folder / "draft")
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._check = check
        self.release = release
        with disk.room_for(folder):
            self._file = self.path.open("wb", buffering=0)

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Write these bytes behind the others; TooLong or DiskFull if they do not fit."""
        self._check(self.size_bytes + len(data))
        with disk.room_for(self.path.parent, len(data) + disk.MARGIN_BYTES):
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._digest.update(data)
        self.size_bytes += len(data)

    def finish(self) -> None:
        """What was written is durable, and no more follows."""
        with disk.room_for(self.path.parent):
            os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Remove it, unless it was adopted."""
        self.release()
        self._file.close()
        self.path.unlink(missing_ok=True)


class LinkedFile(WholeFile):
    """A draft that is another file of the home under one more name. That file must not change any more."""

    def __init__(self, source: Path, folder: Path) -> None:
        super().__init__(folder)
        with disk.room_for(folder):
            self._file.close()
            self.path.unlink()
            os.link(source, self.path)
            self._file = self.path.open("r+b", buffering=0)
        while chunk := self._file.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self.size_bytes += len(chunk)
