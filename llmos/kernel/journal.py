"""The journal: events that must survive the daemon, in SQLite, compacted into a snapshot.

Every row has a checksum and event numbers have no gaps, so that damage is found at opening, before anything is written.
A copy of the last snapshot beside it (kernel/journal_copy.py) allows a restore.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from llmos.abi.error import Corrupt, DiskFull, LlmosError, Unavailable
from llmos.abi.process import Process, Spec
from llmos.abi.redact import MOST_TITLE, kept_args, redact, redacted_fault, shorten
from llmos.kernel import events as ev
from llmos.kernel import journal_copy
from llmos.kernel.earlier_names import current, kind_of
from llmos.kernel.events import EVENTS, Durability, Event
from llmos.kernel.processes.process_runtime import Snapshot
from llmos.kernel.store import disk

FORM = 2  # PRAGMA user_version; 0 means a journal without checksums, which is still read and continued
COLUMNS = {  # of each table: the original columns, and those added by FORM 2
    "events": (("sequence", "kind", "body"), ("checksum",)),
    "snapshot": (("only", "body"), ("checksum", "sequence")),
}
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body BLOB NOT NULL, checksum INTEGER);
CREATE TABLE IF NOT EXISTS snapshot (
    only INTEGER PRIMARY KEY CHECK (only = 1), body BLOB NOT NULL, checksum INTEGER, sequence INTEGER);
"""
COMPACT_EVERY = 5_000
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Journal:
    """Append-only. A FSYNCED event is on the disk when `append` returns; a WRITTEN one survives a kill of the daemon.

    Corrupt, with the way to restore, if the file is not a journal, is damaged, or is from a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # the daemon's loop writes while `llmos doctor` may read
        self.appended = 0  # since the last snapshot
        self._check_there()
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise
        except sqlite3.DatabaseError as error:
            raise self._failure(error) from error

    def append(self, event: Event) -> None:
        """Write one event with its durability; DiskFull or Unavailable if that fails."""
        if event.durability is Durability.NONE:
            return
        level = "FULL" if event.durability is Durability.FSYNCED else "NORMAL"
        kind, body = type(event).__name__, msgspec.json.encode(event)
        with self._using() as db:
            db.execute(f"PRAGMA synchronous = {level}")
            row = (kind, body, _checksum(kind, body))
            db.execute("INSERT INTO events (kind, body, checksum) VALUES (?, ?, ?)", row)
        self.appended += 1

    def snapshot(self) -> Snapshot | None:
        """The last snapshot, or None."""
        with self._using() as db:
            row = db.execute("SELECT body, checksum FROM snapshot").fetchone()
        if row is None:
            return None
        if row[1] is not None and row[1] != _checksum("snapshot", row[0]):
            raise self._damage("its snapshot is not what was written")
        try:
            return _redact_snapshot(msgspec.json.decode(current(row[0]), type=Snapshot))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._damage(f"its snapshot is none: {error}") from error

    def events(self) -> Iterable[Event]:
        """The events after the snapshot, in order."""
        with self._using() as db:
            started = db.execute("SELECT sequence FROM snapshot").fetchone()
            rows = db.execute("SELECT sequence, kind, body, checksum FROM events ORDER BY sequence").fetchall()
        expected = None if started is None or started[0] is None else started[0] + 1
        for sequence, kind, body, checksum in rows:
            if expected is not None and sequence != expected:
                raise self._damage(f"after event {expected - 1} comes event {sequence}")
            if checksum is not None and checksum != _checksum(kind, body):
                raise self._damage(f"event {sequence} is not what was written")
            expected = sequence + 1
            try:
                yield _shown_event(msgspec.json.decode(current(body), type=EVENTS[kind_of(kind)]))
            except (KeyError, msgspec.DecodeError, UnicodeDecodeError) as error:
                raise self._damage(f"event {sequence} ({kind}) is none of this version: {error}") from error

    def compact(self, snapshot: Snapshot) -> None:
        """Replace all events by the resulting state, in one transaction; then copy it beside the journal.

        In this order the copy is never newer than the journal, whenever a kill or power cut happens.
        """
        body = msgspec.json.encode(snapshot)
        with self._using() as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            try:
                sequence = _last_sequence(db)
                row = (body, _checksum("snapshot", body), sequence)
                db.execute("INSERT OR REPLACE INTO snapshot (only, body, checksum, sequence) VALUES (1, ?, ?, ?)", row)
                db.execute("DELETE FROM events")
            except sqlite3.DatabaseError:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
            with suppress(sqlite3.DatabaseError):  # a full disk: it is done the next time
                self._forget(db)
        self.appended = 0
        journal_copy.keep(self._path, sequence, body)

    def damage(self) -> str:
        """The damage of the journal or its copy, as a sentence with the way out; empty if there is none."""
        if found := self.own_damage():
            return found
        found = journal_copy.damage(self._path)
        way_out = "The journal is whole, and the next start writes the copy anew: llmos down, llmos up"
        return f"{found}. {way_out}" if found else ""

    def own_damage(self) -> str:
        """The damage of the journal itself; its copy may be damaged or lost without harm."""
        try:
            with self._using() as db:
                self._check_whole(db)
            self.snapshot()
            for _ in self.events():
                pass
        except Corrupt as error:
            return error.message
        return ""

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _open(self) -> None:
        """Check before anything is written: a foreign file stays as it is."""
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # else a full disk has no room for its shared-memory file
        (form,) = db.execute("PRAGMA user_version").fetchone()
        if form > FORM:
            raise self._damage(f"a newer llmos wrote it (form {form}; this one reads up to {FORM}). Start that one")
        self._check_schema(db)
        self._check_whole(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA secure_delete = ON")  # deleted data is also erased from the file
        self._form = form
        db.executescript(SCHEMA)
        for table, (_, added) in COLUMNS.items():
            there = _columns(db, table)
            for column in added:
                if column not in there:
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER")

    def _check_there(self) -> None:
        kept = journal_copy.exists(self._path)
        if kept and not self._path.exists():
            raise self._damage("it is gone")
        if kept and self._path.stat().st_size == 0:
            raise self._damage("it is empty")

    def _check_schema(self, db: sqlite3.Connection) -> None:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        tables = {name for name in tables if not name.startswith("sqlite_")}
        if not tables and not journal_copy.exists(self._path):
            return  # a new file, or one whose creator was killed before its first table
        if tables != COLUMNS.keys():
            raise self._damage(f"it is a database of something else (tables: {', '.join(sorted(tables)) or 'none'})")
        for table, (always, _) in COLUMNS.items():
            if lacking := [column for column in always if column not in _columns(db, table)]:
                raise self._damage(f"its table {table} lacks {', '.join(lacking)}")

    def _check_whole(self, db: sqlite3.Connection) -> None:
        (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise self._damage(" ".join(str(said).split()))
        try:
            kept = journal_copy.read(self._path)
        except Corrupt:  # the copy is unreadable, and not needed here
            return
        if kept is not None and kept.sequence > _last_sequence(db):
            raise self._damage(
                f"its last event is {_last_sequence(db)}, and the snapshot beside it was taken after {kept.sequence}"
            )

    def _forget(self, db: sqlite3.Connection) -> None:
        """Erase deleted data that an earlier version left in the file."""
        if self._form < FORM:
            db.execute("VACUUM")
            db.execute(f"PRAGMA user_version = {FORM}")
            self._form = FORM
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.DatabaseError as error:
                raise self._failure(error) from error

    def _failure(self, error: sqlite3.DatabaseError) -> LlmosError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return DiskFull(
                f"The disk under {self._path.parent} is full, so nothing can be recorded. Free some space: llmos gc",
                path=str(self._path.parent),
            )
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
            return self._damage(str(error))
        return Unavailable(f"The journal {self._path} cannot be written: {error}")

    def _damage(self, why: str) -> Corrupt:
        return Corrupt(
            f"The journal {self._path} cannot be read: {why.rstrip('.')}. Models and data are not in it. "
            f"{journal_copy.way_back(self._path)}",
            path=str(self._path),
        )


def restore(path: Path) -> str:
    """Replace a damaged journal by one made from the snapshot's copy; the damaged one is kept under another name.

    Returns a sentence on what was done; an intact journal stays. Corrupt if the copy is unreadable too.
    """
    try:
        journal = Journal(path)
        try:
            why = journal.own_damage()
        finally:
            journal.close()
    except Corrupt as error:
        why = error.message
    if not why:
        return f"The journal {path} is whole, and stays as it is"
    kept = journal_copy.read(path)
    if kept is None:
        raise Corrupt(why, path=str(path))
    snapshot = journal_copy.as_of_now(kept.decode(), path.parent)
    made = path.with_suffix(".new")
    for old in (made, *journal_copy.companions(made)):
        old.unlink(missing_ok=True)
    _write(made, snapshot, kept.sequence)
    named = journal_copy.set_aside(path)
    made.replace(path)
    disk.sync(path.parent)
    return f"The journal is the snapshot of {kept.taken_at} again. The damaged one is kept as {named}"


def _write(path: Path, snapshot: Snapshot, sequence: int) -> None:
    """Create a journal with only this snapshot, in one file."""
    body = msgspec.json.encode(snapshot)
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.executescript(SCHEMA)
        db.execute(f"PRAGMA user_version = {FORM}")
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)", (sequence,))
        row = (body, _checksum("snapshot", body), sequence)
        db.execute("INSERT INTO snapshot (only, body, checksum, sequence) VALUES (1, ?, ?, ?)", row)
    finally:
        db.close()


def _checksum(kind: str, body: bytes | str) -> int:
    return zlib.crc32(kind.encode() + b"\0" + (body.encode() if isinstance(body, str) else body))


def _last_sequence(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return 0 if row is None else int(row[0])


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in db.execute(f"PRAGMA table_info({table})")}


# Values in earlier journals that may be neither kept nor shown.


def _redact_snapshot(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, processes=tuple(map(_shown_process, snapshot.processes)))


def _shown_process(process: Process) -> Process:
    fault = None if process.fault is None else redacted_fault(process.fault)
    return replace(process, spec=_shown_spec(process.spec), fault=fault, reason=redact(process.reason))


def _shown_spec(spec: Spec) -> Spec:
    return replace(spec, args=kept_args(spec.args), title=shorten(redact(spec.title), MOST_TITLE))


def _shown_event(event: Event) -> Event:
    match event:
        case ev.Submitted(spec=spec):
            return replace(event, spec=_shown_spec(spec))
        case ev.Failed(fault=fault) | ev.StartFailed(fault=fault):
            return replace(event, fault=redacted_fault(fault))
    return event
