"""CSV and TSV: commas with quotes as RFC 4180 has them; tabs without, but for a field that is quoted whole."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from llmos.abi.error import BadRow
from llmos.data.decoding import empty, lines_of_file
from llmos.data.formats.source import Source
from llmos.data.table import SAMPLE_ROWS, Item, Record, Table, bad_row, table_of

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv"}
DELIMITERS = {"csv": ",", "tsv": "\t"}
MAX_CELL_CHARS = 16 * 1024 * 1024
HEADER_NAME = re.compile(r"[^\W\d][\w .-]{0,40}")


def open_file(source: Source, form: str) -> Table:
    """The file's rows; the first that is read names the columns, if it looks like a header or the user says so."""
    path, delimiter = source.path, DELIMITERS[form]
    rows = _csv_rows(path) if delimiter == "," else _tab_rows(path)
    first = list(islice(rows, SAMPLE_ROWS))
    readable = [row for row in first if isinstance(row, Record)]
    if not readable:
        raise next((row for row in first if isinstance(row, BadRow)), empty(path))
    width = len(readable[0].cells)
    has_header = source.data.has_header
    if has_header is None:
        alike = [[str(cell) for cell in row.cells] for row in readable if len(row.cells) == width]
        has_header = looks_like_header(alike, source.is_column_name, source.is_nearly_column_name)
    header = readable[0]
    if has_header and len(first) == 1:
        way_out = "Add rows, or say that it has no header"
        raise bad_row(path, 1, "the file has a header and no rows", way_out, kind="no_rows")
    names = [str(cell).strip() for cell in header.cells] if has_header else list(map(str, range(width)))
    items = (row for row in chain(first, rows) if not has_header or row is not header)
    return table_of(path, form, names, _check_width(path, items, width, delimiter), has_names=has_header)


def _check_width(path: Path, rows: Iterator[Item], width: int, delimiter: str) -> Iterator[Item]:
    for row in rows:
        if isinstance(row, BadRow) or len(row.cells) == width:
            yield row
            continue
        yield bad_row(
            path,
            row.line,
            f"{len(row.cells)} columns where the first row has {width}",
            "Quote a field that contains the delimiter, or remove the row",
            delimiter.join(map(str, row.cells)),
            kind="width",
        )


def looks_like_header(
    rows: Sequence[Sequence[str]],
    known: Callable[[str], bool],
    nearly_known: Callable[[str], bool] = lambda cell: False,
) -> bool:
    """The first row names columns if it uses a known name, or one with a slip of the pen that does not come again,
    or values that come again in no column that repeats."""
    first = [cell.strip() for cell in rows[0]]
    if any(known(cell) for cell in first):
        return True
    if not all(HEADER_NAME.fullmatch(cell) for cell in first) or len(set(first)) < len(first):
        return False
    columns = [[row[i].strip() for row in rows[1:]] for i in range(len(first))]
    if any(nearly_known(cell) and cell not in columns[i] for i, cell in enumerate(first)):
        return True
    repeating = [i for i, column in enumerate(columns) if len(set(column)) * 2 <= len(column)]
    return len(rows) > 3 and bool(repeating) and all(first[i] not in columns[i] for i in repeating)


class _Lines:
    """The lines that a CSV reader takes, one at a time; those that cannot be decoded are kept aside as bad rows."""

    def __init__(self, path: Path) -> None:
        self.bad: list[BadRow] = []
        self.first = 0  # the number of the first line that was taken for the row at hand
        self._lines = lines_of_file(path)

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if isinstance(line, BadRow):
                self.bad.append(line)
                continue
            number, text = line
            self.first = self.first or number
            yield text


def _csv_rows(path: Path) -> Iterator[Item]:
    csv.field_size_limit(MAX_CELL_CHARS)
    lines = _Lines(path)
    reader = csv.reader(iter(lines), strict=True)
    while True:
        lines.first = 0
        try:
            cells = next(reader)
        except StopIteration:
            yield from _drain(lines)
            return
        except csv.Error as error:
            yield from _drain(lines)
            way_out = 'Close the quotes, and double those inside a field: "a ""b"" c"'
            yield bad_row(path, lines.first, f"not valid CSV ({error})", way_out, kind="quotes")
            continue
        yield from _drain(lines)
        if any("\x00" in cell for cell in cells):
            yield _nul(path, lines.first)
        elif cells:
            yield Record(lines.first, tuple(cells))


def _drain(lines: _Lines) -> Iterator[BadRow]:
    yield from lines.bad
    lines.bad.clear()


def _nul(path: Path, line: int) -> BadRow:
    way_out = "Save the file as plain UTF-8 text, or name its format"
    return bad_row(path, line, "a NUL character", way_out, "\x00", kind="nul")


def _tab_rows(path: Path) -> Iterator[Item]:
    for item in lines_of_file(path):
        if isinstance(item, BadRow):
            yield item
            continue
        line, text = item
        text = text.removesuffix("\n").removesuffix("\r")
        if text.strip():
            yield Record(line, tuple(map(_unquote, text.split("\t"))))


def _unquote(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell
