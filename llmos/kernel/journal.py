"""The journal: every event that must outlive the daemon, in SQLite, with a snapshot so that it stays small."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec

from llmos.abi.error import Corrupt, DiskFull, LlmosError, Unavailable
from llmos.kernel.events import EVENTS, Event, Kept
from llmos.kernel.table import Snapshot

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS snapshot (only INTEGER PRIMARY KEY CHECK (only = 1), body BLOB NOT NULL);
"""
COMPACT_EVERY = 5_000


class Journal:
    """Append-only. A promised event is on the disk when `append` returns; a noted one is safe from a kill."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.appended = 0  # since the last snapshot
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # else a full disk has no room for the file it shares
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise self._failure(error) from error

    def append(self, event: Event) -> None:
        """Write one event as well as it asks to be kept; DiskFull or Unavailable if it could not be."""
        if event.kept is Kept.PASSING:
            return
        level = "FULL" if event.kept is Kept.PROMISED else "NORMAL"
        try:
            self._db.execute(f"PRAGMA synchronous = {level}")
            self._db.execute(
                "INSERT INTO events (kind, body) VALUES (?, ?)", (type(event).__name__, msgspec.json.encode(event))
            )
        except sqlite3.DatabaseError as error:
            raise self._failure(error) from error
        self.appended += 1

    def snapshot(self) -> Snapshot | None:
        """The last snapshot, if there is one."""
        row = self._db.execute("SELECT body FROM snapshot").fetchone()
        try:
            return None if row is None else msgspec.json.decode(row[0], type=Snapshot)
        except msgspec.DecodeError as error:
            raise self._unreadable(error) from error

    def events(self) -> Iterable[Event]:
        """The events after the snapshot, in their order."""
        for kind, body in self._db.execute("SELECT kind, body FROM events ORDER BY sequence"):
            try:
                yield msgspec.json.decode(body, type=EVENTS[kind])
            except (KeyError, msgspec.DecodeError) as error:
                raise self._unreadable(error) from error

    def compact(self, snapshot: Snapshot) -> None:
        """Replace all events by the state they led to, in one transaction."""
        body = msgspec.json.encode(snapshot)
        try:
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("INSERT OR REPLACE INTO snapshot (only, body) VALUES (1, ?)", (body,))
                self._db.execute("DELETE FROM events")
            except sqlite3.DatabaseError:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise self._failure(error) from error
        self.appended = 0

    def close(self) -> None:
        self._db.close()

    def _failure(self, error: sqlite3.DatabaseError) -> LlmosError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return DiskFull(
                f"The disk under {self._path.parent} is full, so nothing can be promised. Free some space: llmos gc",
                path=str(self._path.parent),
            )
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._unreadable(error)
        return Unavailable(f"The journal {self._path} cannot be written: {error}")

    def _unreadable(self, error: Exception) -> Corrupt:
        return Corrupt(
            f"The journal {self._path} cannot be read: {error}. Move it away to start without process history; "
            "models and data are not in it",
            path=str(self._path),
        )
