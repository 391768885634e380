"""Checksums: which files have been verified against their sha256, so that none is hashed twice without need.

Each file is verified once in a daemon's life. A large one stays verified over a restart, as long as its inode, size and
change time are the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llmos.abi.error import BadInput, DiskFull
from llmos.abi.model import File
from llmos.abi.wire import from_json, to_json
from llmos.kernel.store import disk

LARGE_BYTES = 16 * 1024 * 1024  # smaller files are hashed at every start, which takes no noticeable time
MOST_MARKS = 4096


class Checksums:
    """The file `verified.json`. `check` reads a file and raises Corrupt if its bytes are not what they should be."""

    def __init__(self, path: Path, check: Callable[[File, Path], None], large_bytes: int = LARGE_BYTES) -> None:
        self._path, self._check, self._large_bytes = path, check, large_bytes
        self._lock = threading.Lock()
        self._proven: set[tuple[str, Path]] = set()
        self._marks: dict[str, str] = {}
        with suppress(OSError, BadInput):
            self._marks = from_json(path.read_bytes(), dict[str, str])

    def prove(self, file: File, path: Path) -> None:
        """Raise Corrupt unless the bytes at this path are the file's; a verified file is not read again."""
        if (file.digest, path) in self._proven:
            return
        if not self._is_marked(file, path):
            self._check(file, path)
            self.remember(file, path)
        self._proven.add((file.digest, path))

    def remember(self, file: File, path: Path) -> None:
        """Record that the file was hashed just now and is correct."""
        if file.size_bytes < self._large_bytes:
            return
        with self._lock, suppress(OSError, DiskFull):  # an unrecorded file is hashed again
            self._marks[_mark(path)] = file.digest
            self._marks = dict(list(self._marks.items())[-MOST_MARKS:])
            disk.write(self._path, to_json(self._marks))

    def _is_marked(self, file: File, path: Path) -> bool:
        if file.size_bytes < self._large_bytes:
            return False
        try:
            return self._marks.get(_mark(path)) == file.digest
        except OSError:
            return False


def _mark(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"
