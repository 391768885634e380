"""Copies of files that others may write meanwhile: a copy is what the file was at one moment, with its digest."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llmos.abi.error import Conflict, Unavailable
from llmos.kernel.store import disk

PIECE_BYTES = 1 << 20
LOGS = ("-wal", "-journal")  # what SQLite keeps beside a database while it is open, or written
TRIES = 5


@dataclass(frozen=True, slots=True)
class Measure:
    """The digest and size of what was copied."""

    digest: str
    size_bytes: int


def copy_stable(source: Path, target: Path) -> Measure:
    """Copy a file to this path and sync it; FileNotFoundError if it is gone, Unavailable if it never stood still.

    A file that only grows is copied up to the size it had at the start. An open SQLite database is copied by SQLite.
    """
    if is_database(source):
        return _copy_database(source, target)
    for _ in range(TRIES):
        with source.open("rb") as file, target.open("wb") as copy:
            before = os.fstat(file.fileno())
            measure = pour(file, copy, before.st_size)
            after = os.fstat(file.fileno())
            if measure.size_bytes == before.st_size and (
                _is_unchanged(before, after) or after.st_size > before.st_size
            ):
                copy.flush()
                os.fsync(copy.fileno())
                return measure
    raise Unavailable(f"{source} changes all the time, so no copy of it is sound. Try again later", path=str(source))


def pour(file: BinaryIO, copy: BinaryIO | None, most_bytes: int | None = None) -> Measure:
    """Read a file to its end, or so many bytes of it, and write them to the copy if there is one."""
    digest, done = hashlib.sha256(), 0
    while most_bytes is None or done < most_bytes:
        piece = file.read(PIECE_BYTES if most_bytes is None else min(PIECE_BYTES, most_bytes - done))
        if not piece:
            break
        digest.update(piece)
        if copy is not None:
            copy.write(piece)
        done += len(piece)
    return Measure(digest.hexdigest(), done)


class HashingReader:
    """A file that is hashed as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._digest.update(piece)
        return piece

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def is_database(path: Path) -> bool:
    """Whether somebody has the file open as a SQLite database; one that nobody has is copied as it is."""
    return any(Path(f"{path}{end}").exists() for end in LOGS)


def _is_unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _copy_database(source: Path, target: Path) -> Measure:
    """A database at one moment, in one file; Conflict if its writer lets nobody else read it."""
    target.unlink(missing_ok=True)
    try:
        address = source.absolute().as_uri() + "?mode=ro"
        with (
            closing(sqlite3.connect(address, uri=True, isolation_level=None)) as there,
            closing(sqlite3.connect(target)) as copy,
        ):
            there.execute("BEGIN")
            there.execute("SELECT count(*) FROM sqlite_master").fetchone()  # `backup` would wait for ever for a lock
            there.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise Conflict(f"The database {source} cannot be copied: {error}. Try again, or stop what holds it") from error
    disk.sync(target)
    with target.open("rb") as file:
        return pour(file, None)
