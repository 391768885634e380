"""Usage in a SQLite file: one row for each day, key and model, to which counts are added."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from llmos.abi.usage import ALL_PARTS, UsageFilter, UsageRow

FILE = "usage.db"
COUNTS = ("requests", "errors", "input_tokens", "output_tokens")
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS used (day TEXT, key TEXT, model TEXT, {", ".join(f"{one} INTEGER" for one in COUNTS)},
    PRIMARY KEY (day, key, model)) WITHOUT ROWID;
"""
ADD = f"""
INSERT INTO used VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, key, model)
    DO UPDATE SET {", ".join(f"{one} = {one} + excluded.{one}" for one in COUNTS)}
"""
DAY_S = 86_400
BUSY_S = 5.0
Place = tuple[int, str, str]  # the day since 1970, the key's id, the model's ref
Counts = Sequence[int]  # as COUNTS


def day_text(day: int) -> str:
    """A day since 1970 as 2026-01-31."""
    return datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d")


class UsageFile:
    """The file. Each method opens it anew: a file that was removed or put back is the one that counts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, counts: Mapping[Place, Counts], first_day: int) -> None:
        """Add these counts and remove the days before `first_day`, in one transaction, synced to the disk."""
        with self._open() as database, database:
            rows = ((day_text(day), key, model, *count) for (day, key, model), count in counts.items())
            database.executemany(ADD, rows)
            database.execute("DELETE FROM used WHERE day < ?", (day_text(first_day),))

    def find(self, wanted: UsageFilter) -> list[UsageRow]:
        """Sums over what `wanted.by` leaves out: the newest days first, and of a day the most requests first."""
        if not self._path.exists():
            return []
        where, values = _conditions(wanted)
        parts = ", ".join(part if part in wanted.by else f"'' AS {part}" for part in ALL_PARTS)
        sums = ", ".join(f"sum({one}) AS total_{one}" for one in COUNTS)
        order = ["day DESC"] * ("day" in wanted.by) + ["total_requests DESC", *(str(part) for part in wanted.by)]
        query = (
            f"SELECT {parts}, {sums} FROM used WHERE {where} GROUP BY {', '.join(wanted.by)} "
            f"ORDER BY {', '.join(order)} LIMIT ?"
        )
        with self._open() as database:
            return [UsageRow(*row) for row in database.execute(query, (*values, wanted.limit))]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=BUSY_S)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(SCHEMA)
            yield database


def _conditions(wanted: UsageFilter) -> tuple[str, list[str]]:
    said = [
        ("day >= ?", [wanted.since]),
        ("day <= ?", [wanted.until]),
        ("key = ?", [wanted.key]),
        ("(model = ? OR substr(model, 1, length(?)) = ?)", [wanted.model, *[f"{wanted.model}:"] * 2]),
    ]
    used = [(part, values) for part, values in said if values[0]]
    return " AND ".join(["1", *(part for part, _ in used)]), [value for _, values in used for value in values]
