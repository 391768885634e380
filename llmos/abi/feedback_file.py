"""The file of feedback: a SQLite database that the daemon writes and a program reads. A written row is on the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path

import msgspec

from llmos.abi.feedback import FeedbackCounts, FeedbackRow

FILE = "feedback/feedback.db"  # in the home
BUSY_S = 10.0
JSON = ("input", "value", "answer")
COLUMNS = tuple(one.name for one in fields(FeedbackRow))
NAMES = ", ".join(f'"{one}"' for one in COLUMNS)
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS rows
    ({", ".join("id INTEGER PRIMARY KEY AUTOINCREMENT" if one == "id" else f'"{one}"' for one in COLUMNS)});
CREATE UNIQUE INDEX IF NOT EXISTS by_call ON rows (call, "index", kind) WHERE call != '';
CREATE INDEX IF NOT EXISTS by_model ON rows (model, id);
"""


@contextmanager
def open_feedback(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, made if it is not there. What a transaction has written outlives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")
        database.executescript(SCHEMA)
        yield database


def add_rows(database: sqlite3.Connection, rows: Iterable[FeedbackRow]) -> list[FeedbackRow]:
    """Write rows in one transaction, each in place of an earlier one on the same call; returned with their ids."""
    added = []
    with database:
        for row in rows:
            if row.call:
                where = (row.call, row.index, row.kind)
                database.execute('DELETE FROM rows WHERE call = ? AND "index" = ? AND kind = ?', where)
            cells = (None, *_cells(row)[1:])
            made = database.execute(f"INSERT INTO rows ({NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})", cells)
            added.append(replace(row, id=int(made.lastrowid or 0)))
    return added


def rows_of(database: sqlite3.Connection, model: str, *, upto: int | None = None) -> Iterator[FeedbackRow]:
    """The rows of a model's name up to this id, the oldest first."""
    last = (1 << 62) if upto is None else upto
    query = f"SELECT {NAMES} FROM rows WHERE model = ? AND id <= ? ORDER BY id"
    return map(_row, database.execute(query, (model, last)))


def newest(database: sqlite3.Connection, model: str, user: str, limit: int) -> list[FeedbackRow]:
    """The newest rows: of this model and of this user, where they are named."""
    query = f'SELECT {NAMES} FROM rows WHERE ? IN (model, "") AND ? IN ("by", user, "") ORDER BY id DESC LIMIT ?'
    return list(map(_row, database.execute(query, (model, user, limit))))


def counts_of(database: sqlite3.Connection, model: str, *, after: int = 0) -> FeedbackCounts:
    """The counts of a model's rows after this id."""
    counts = FeedbackCounts(model)
    query = "SELECT is_held_out, iif(kind = 'score', NULL, answer), value, id FROM rows WHERE model = ? AND id > ?"
    for held_out, answer, value, number in database.execute(query, (model, after)):
        agreed = answer is not None and answer == value
        counts = FeedbackCounts(
            model,
            counts.rows + 1,
            counts.held_out + bool(held_out),
            counts.known + (answer is not None),
            counts.agreed + agreed,
            max(counts.last_id, number),
        )
    return counts


def erase_user(database: sqlite3.Connection, user: str) -> int:
    """Delete the rows that a user gave, and those on a user's calls, to the last byte; returns how many."""
    with database:
        gone = database.execute("DELETE FROM rows WHERE ? != '' AND ? IN (\"by\", user)", (user, user)).rowcount
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return int(gone)


def _cells(row: FeedbackRow) -> tuple[object, ...]:
    return tuple(_text(getattr(row, name)) if name in JSON else getattr(row, name) for name in COLUMNS)


def _text(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value, order="deterministic").decode()


def _row(cells: Sequence[object]) -> FeedbackRow:
    named = dict(zip(COLUMNS, cells, strict=True))
    for name in JSON:
        if isinstance(text := named[name], str):
            named[name] = msgspec.json.decode(text)
    named["is_held_out"] = bool(named["is_held_out"])
    return FeedbackRow(**named)  # type: ignore[arg-type]  # cells of the table that its fields have made
