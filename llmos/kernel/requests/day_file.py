"""One day's records in a SQLite file: its table, and how rows are written, found and erased."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path

import msgspec

from llmos.abi.call_record import DAY, CallRecord, RequestFilter
from llmos.kernel.requests.call_row import INPUTS, CallRow

SUFFIX = ".db"
BESIDE = ("-wal", "-shm", "-journal")  # the files that SQLite keeps beside a database
COLUMNS = tuple(one.name for one in fields(CallRecord))
TEXTS = ("inputs", "outputs")
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS calls ({", ".join("id TEXT PRIMARY KEY" if one == "id" else one for one in COLUMNS)})
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON calls (at);
CREATE INDEX IF NOT EXISTS by_user ON calls (user) WHERE user != '';
"""
MOST_AT_ONCE = 64  # rows of one statement: each statement gives the interpreter's lock away, and waits to get it back
ROW = f"({', '.join('?' * len(COLUMNS))})"
INSERT = "INSERT OR REPLACE INTO calls VALUES "
BUSY_S = 5.0


def path_of(folder: Path, day: str) -> Path:
    """The file of this day."""
    return folder / f"{day}{SUFFIX}"


def days_in(folder: Path) -> list[str]:
    """The days that have a file, the newest first."""
    return sorted((one.stem for one in folder.glob(f"*{SUFFIX}") if DAY.fullmatch(one.stem)), reverse=True)


@contextmanager
def open_day(path: Path) -> Iterator[sqlite3.Connection]:
    """The day's database, made if it is not there. What is deleted from it is overwritten."""
    with closing(connect(path)) as database:
        yield database


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the day's database, as `open_day`; its caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=BUSY_S)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA secure_delete = ON")
        database.executescript(SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def write(database: sqlite3.Connection, rows: Sequence[CallRow]) -> None:
    """Write these rows in one transaction."""
    with database:
        for start in range(0, len(rows), MOST_AT_ONCE):
            some = rows[start : start + MOST_AT_ONCE]
            database.execute(INSERT + ", ".join([ROW] * len(some)), [cell for row in some for cell in _cells(row)])


def find(path: Path, wanted: RequestFilter, limit: int) -> list[CallRecord]:
    """The records that are wanted of one day, the newest first, without their texts."""
    where, values = _conditions(wanted)
    names = ", ".join("NULL" if one in TEXTS else one for one in COLUMNS)
    query = f"SELECT {names} FROM calls WHERE {where} ORDER BY at DESC, id DESC LIMIT ?"
    with open_day(path) as database:
        return [_record(row) for row in database.execute(query, (*values, limit))]


def get(path: Path, call_id: str) -> CallRecord | None:
    """The record of this call with its texts."""
    with open_day(path) as database:
        row = database.execute("SELECT * FROM calls WHERE id = ?", (call_id,)).fetchone()
    return None if row is None else _record(row)


def erase(path: Path, user: str) -> int:
    """Delete a user's records, also from the file's free pages and its log; returns how many."""
    with open_day(path) as database:
        with database:
            gone = database.execute("DELETE FROM calls WHERE user = ? AND user != ''", (user,)).rowcount
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return int(gone)


def unlink(path: Path) -> None:
    """Remove a day's file with those beside it."""
    for one in (path, *(path.with_name(path.name + suffix) for suffix in BESIDE)):
        one.unlink(missing_ok=True)


def _conditions(wanted: RequestFilter) -> tuple[str, list[str]]:
    parts: list[str] = ["1"]
    values: list[str] = []
    for column in ("user", "outcome"):
        if value := getattr(wanted, column):
            parts.append(f"{column} = ?")
            values.append(value)
    if wanted.model:
        parts.append("(model = ? OR substr(model, 1, length(?)) = ?)")
        values += [wanted.model, f"{wanted.model}:", f"{wanted.model}:"]
    return " AND ".join(parts), values


def _cells(row: CallRow) -> tuple[object, ...]:
    inputs, outputs = row[INPUTS:]
    return row if inputs is None and outputs is None else (*row[:INPUTS], _text(inputs), _text(outputs))


def _text(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _record(row: Sequence[object]) -> CallRecord:
    cells = dict(zip(COLUMNS, row, strict=True))
    for name in TEXTS:
        if isinstance(text := cells[name], str):
            cells[name] = tuple(msgspec.json.decode(text))
    return CallRecord(**cells)  # type: ignore[arg-type]  # cells of the table that its fields have made
