"""The dialect of a delimited file, told from its first lines: what parts its cells, how quotes are written."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

DELIMITERS = ("\t", ";", ",", "|")  # the first of those that fit alike: commas and bars also stand in texts
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's
MAX_CELL_CHARS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one file writes its cells."""

    delimiter: str = ","
    escapes_quotes: bool = False  # \\" inside a quoted cell, rather than ""
    has_separator_line: bool = False


def sniff(lines: Sequence[str], is_name: Callable[[str], bool], least_share: float = 0.0) -> Dialect | None:
    """The dialect in which most rows have one width, two cells at least; None if no such share of them has."""
    if lines and (said := SEPARATOR_LINE.fullmatch(lines[0])):
        return Dialect(said[1], _escapes(lines[1:], said[1]), True)
    best, score = None, (False, 0.0)
    for delimiter in DELIMITERS:
        dialect = Dialect(delimiter, _escapes(lines, delimiter))
        rows = _rows(lines, dialect)
        width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
        if width < 2 or count < least_share * len(rows):
            continue
        found = any(is_name(cell.strip()) for cell in rows[0]), count / len(rows)
        if found > score:
            best, score = dialect, found
    return best


def csv_rows(lines: Iterable[str], dialect: Dialect) -> Iterator[list[str]]:
    """The rows as Python's csv module reads them, strictly; csv.Error at one that is not valid, and on after it."""
    csv.field_size_limit(MAX_CELL_CHARS)
    escape = "\\" if dialect.escapes_quotes else None
    return csv.reader(
        lines, delimiter=dialect.delimiter, strict=True, escapechar=escape, doublequote=not dialect.escapes_quotes
    )


def split_tabs(line: str) -> list[str]:
    """The cells of a line with tabs; quotes are signs like others, but where they stand around a whole cell."""
    return [unquote(cell) for cell in line.split("\t")]


def unquote(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _escapes(lines: Sequence[str], delimiter: str) -> bool:
    """Whether quotes inside cells have a backslash before them: more rows are valid so."""
    if delimiter == "\t" or not any('\\"' in line for line in lines):
        return False
    plain, escaped = (sum(map(bool, _rows(lines, Dialect(delimiter, escapes)))) for escapes in (False, True))
    return escaped > plain


def _rows(lines: Sequence[str], dialect: Dialect) -> list[list[str]]:
    """The rows; one that is not valid has no cells."""
    read = [row or [] for row in _read(lines, dialect) if row is None or row]
    if dialect.delimiter != "\t" or (len(set(map(len, read))) == 1 and len(read[0]) > 1):
        return read
    return [split_tabs(line.rstrip("\r\n")) for line in lines if line.strip()]


def _read(lines: Sequence[str], dialect: Dialect) -> Iterator[list[str] | None]:
    """Every row, None for one that is not valid."""
    rows = csv_rows(lines, dialect)
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield None
