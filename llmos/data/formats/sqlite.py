"""SQLite: a table, or what one SELECT gives, opened to read alone; row numbers stand for lines, from 1."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from llmos.abi.error import BadInput, PathNotAllowed
from llmos.abi.roots import SETTING, open_below
from llmos.abi.row_path import split_part
from llmos.abi.upload import real_path
from llmos.data.byte_source import unreadable
from llmos.data.formats.source import Source
from llmos.data.table import Item, Record, Table, bad_row, table_of

READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name"


def open_file(source: Source, form: str) -> Table:
    """The rows of the user's query, of the table that a part names (`rows.db:tickets`), or of the only table."""
    path, query = source.path, source.data.query
    with closing(_connect(path)) as base:
        statement = query or f"SELECT * FROM {_quoted_name(_table(path, base))}"
        try:
            names = [column[0] for column in base.execute(statement).description or ()]
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _refusal(path, statement, error) from error
    if not names:
        raise _refusal(path, statement, ValueError("it gives no rows"))
    table = table_of(path, form, names, _rows(path, statement))
    if not table.sample:
        raise bad_row(path, 1, "the query gives no rows", "Name another table or query", kind="no_rows")
    return table


def _connect(path: Path) -> sqlite3.Connection:
    """Reads alone, and of the file that was checked: another that its path leads to meanwhile is refused."""
    name = Path(split_part(str(path))[0])
    try:
        with open_below(name) as checked:
            place = os.fstat(checked.fileno())
            before = _open_count(place)
            base = sqlite3.connect(f"file:{quote(str(real_path(name)))}?mode=ro", uri=True)
            is_same = before is None or (_open_count(place) or 0) > before
    except OSError as error:
        raise unreadable(path, error) from error
    except sqlite3.Error as error:
        raise BadInput(f"{path} cannot be opened ({error}). Give an SQLite file", file=str(path)) from error
    if not is_same:
        base.close()
        raise PathNotAllowed(f"{name} was changed while it was opened. Try again", key=SETTING, value=str(name))
    base.text_factory = _text
    base.set_authorizer(_authorize)
    return base


def _open_count(place: os.stat_result) -> int | None:
    """How many descriptors of this process lead to this file; None where the system does not say."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        return None
    count = 0
    for one in os.listdir(descriptors):
        try:
            count += os.path.samestat(os.stat(descriptors / one), place)
        except OSError:  # closed meanwhile
            continue
    return count


def _authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
    """Only what reads; no function that loads code."""
    if action not in READS or (action == sqlite3.SQLITE_FUNCTION and second == "load_extension"):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _text(data: bytes) -> str | bytes:
    """As text where it is UTF-8; else its bytes, which are refused with the row's number."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _table(path: Path, base: sqlite3.Connection) -> str:
    try:
        tables = [str(name) for (name,) in base.execute(TABLES)]
    except sqlite3.Error as error:
        raise BadInput(f"{path} is no SQLite file that can be read ({error})", file=str(path)) from error
    file, part = split_part(str(path))
    if part in tables:
        return part
    if len(tables) == 1 and not part:
        return tables[0]
    said = f"has no table {part!r}" if part else f"has {len(tables)} tables"
    raise BadInput(
        f"{file} {said}. There are: {', '.join(tables) or 'none'}. Name one behind a colon ({file}:TABLE), or give a "
        "SELECT with the option query",
        file=str(path),
        value=part,
        expected=tables,
    )


def _quoted_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _refusal(path: Path, statement: str, error: Exception) -> BadInput:
    return BadInput(
        f"{path}: the query is refused ({error}). Give one SELECT, without ; and another statement behind it",
        file=str(path),
        value=statement,
    )


def _rows(path: Path, statement: str) -> Iterator[Item]:
    with closing(_connect(path)) as base:
        for line, cells in enumerate(base.execute(statement), 1):
            bad = next((cell for cell in cells if isinstance(cell, bytes)), None)
            if bad is None:
                yield Record(line, cells)
                continue
            way_out = "Give texts in UTF-8, and leave out columns of bytes with the option query"
            yield bad_row(path, line, "a cell holds bytes, not text", way_out, bad[:40], kind="bytes")
