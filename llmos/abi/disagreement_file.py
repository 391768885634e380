"""The file of disagreements: a SQLite database that the daemon writes and the programs of labelling read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path

import msgspec

from llmos.abi.disagreement import Disagreement

FILE = "rollouts/disagreements.db"  # in the home
MOST_ROWS = 10_000  # of a model; the oldest go first
BUSY_S = 10.0
COLUMNS = tuple(one.name for one in fields(Disagreement))
NAMES = ", ".join(f'"{one}"' for one in COLUMNS)
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS rows
    ({", ".join("id INTEGER PRIMARY KEY AUTOINCREMENT" if one == "id" else f'"{one}"' for one in COLUMNS)});
CREATE UNIQUE INDEX IF NOT EXISTS by_text ON rows (model, text_id, user);
CREATE INDEX IF NOT EXISTS by_model ON rows (model, id);
CREATE INDEX IF NOT EXISTS by_user ON rows (user) WHERE user != '';
"""


@contextmanager
def open_disagreements(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, made if it is not there. What is written outlives a kill; what is deleted is overwritten."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=BUSY_S)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA secure_delete = ON")
        database.executescript(SCHEMA)
        yield database


def add_rows(database: sqlite3.Connection, rows: Iterable[Disagreement], most: int = MOST_ROWS) -> None:
    """Write rows in one transaction, the newest in place of earlier ones of the same text and user; of each model the
    newest `most` stay."""
    with database:
        models = set()
        for row in rows:
            models.add(row.model)
            where = (row.model, row.text_id, row.user)
            found = 'FROM rows WHERE model = ? AND text_id = ? AND "user" = ?'
            before = database.execute(f'SELECT "count" {found}', where).fetchone()
            database.execute(f"DELETE {found}", where)
            cells = _cells(replace(row, count=row.count + (before[0] if before else 0)))
            database.execute(f"INSERT INTO rows ({NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})", (None, *cells[1:]))
        for model in models:
            database.execute(
                "DELETE FROM rows WHERE model = ? AND id <= "
                "(SELECT id FROM rows WHERE model = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (model, model, most),
            )


def texts_of(database: sqlite3.Connection, model: str) -> Iterator[Disagreement]:
    """Each text on which versions of this model disagreed, once, as it came last; its count is over all users."""
    counts = "SELECT text_id, SUM(count) AS total, MAX(id) AS newest FROM rows WHERE model = ? GROUP BY text_id"
    names = ", ".join("found.total" if one == "count" else f'rows."{one}"' for one in COLUMNS)
    query = f"SELECT {names} FROM rows JOIN ({counts}) AS found ON rows.id = found.newest ORDER BY rows.id"
    return map(_row, database.execute(query, (model,)))


def newest(database: sqlite3.Connection, model: str, user: str, limit: int) -> list[Disagreement]:
    """The newest rows of this model, and of this user where one is named."""
    query = f'SELECT {NAMES} FROM rows WHERE model = ? AND ? IN ("user", "") ORDER BY id DESC LIMIT ?'
    return list(map(_row, database.execute(query, (model, user, limit))))


def counts_of(database: sqlite3.Connection) -> dict[str, int]:
    """How many texts each model has."""
    return dict(database.execute("SELECT model, COUNT(DISTINCT text_id) FROM rows GROUP BY model"))


def count_of(database: sqlite3.Connection, model: str) -> int:
    """How many texts this model has."""
    (count,) = database.execute("SELECT COUNT(DISTINCT text_id) FROM rows WHERE model = ?", (model,)).fetchone()
    return int(count)


def erase_user(database: sqlite3.Connection, user: str) -> int:
    """Delete the rows of a user's calls, to the last byte; returns how many."""
    with database:
        gone = database.execute("DELETE FROM rows WHERE ? != '' AND \"user\" = ?", (user, user)).rowcount
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return int(gone)


def drop_before(database: sqlite3.Connection, at: float) -> int:
    """Delete the rows from before this time, to the last byte; returns how many."""
    return _drop(database, "at < ?", (at,))


def drop_models(database: sqlite3.Connection, names: Sequence[str]) -> int:
    """Delete the rows of these models, to the last byte; returns how many."""
    return sum(_drop(database, "model = ?", (name,)) for name in names)


def text_ids(database: sqlite3.Connection) -> set[str]:
    """The ids of all texts that are here."""
    return {text_id for (text_id,) in database.execute("SELECT DISTINCT text_id FROM rows")}


def _drop(database: sqlite3.Connection, where: str, values: tuple[object, ...]) -> int:
    with database:
        gone = int(database.execute(f"DELETE FROM rows WHERE {where}", values).rowcount)
    if gone:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return gone


def _cells(row: Disagreement) -> tuple[object, ...]:
    return tuple(
        msgspec.json.encode(row.answers).decode() if name == "answers" else getattr(row, name) for name in COLUMNS
    )


def _row(cells: Sequence[object]) -> Disagreement:
    named = dict(zip(COLUMNS, cells, strict=True))
    named["answers"] = msgspec.json.decode(str(named["answers"]))
    return Disagreement(**named)  # type: ignore[arg-type]  # cells of the table that its fields have made
