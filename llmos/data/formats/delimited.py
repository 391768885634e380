"""CSV and TSV of any dialect: commas, semicolons or bars with quotes as RFC 4180 has them; tabs with or without."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice

from llmos.abi.error import BadRow
from llmos.data.decoding import TextSource
from llmos.data.formats.dialect import Dialect, csv_rows, sniff, split_tabs
from llmos.data.formats.grid import table_of_grid
from llmos.data.formats.source import Source
from llmos.data.table import Item, Record, Table, bad_row

SNIFFED_LINES = 500
SNIFFED_CHARS = 1024 * 1024
MOST_LINES = 1000  # of one cell in quotes, where tabs part cells


def open_file(source: Source, form: str) -> Table:
    """The file's rows, in the dialect of its first lines; TSV, where the user says so, has tabs."""
    text = source.as_text()
    found = sniff(first_lines(text), source.is_column_name)
    dialect = found or Dialect()
    if form == "tsv" and (found is None or source.data.format == "tsv"):
        dialect = Dialect("\t", has_separator_line=dialect.has_separator_line)
    has_tabs = dialect.delimiter == "\t"
    rows = _tab_rows(text, dialect) if has_tabs else _csv_rows(text, dialect)
    return table_of_grid(source, "tsv" if has_tabs else "csv", rows, dialect.delimiter)


def first_lines(text: TextSource) -> list[str]:
    """The lines that tell the dialect; those that cannot be decoded are no part of them."""
    lines: list[str] = []
    size = 0
    for line in islice(text.lines(), SNIFFED_LINES):
        if not isinstance(line, BadRow):
            lines.append(line[1])
            size += len(line[1])
        if size > SNIFFED_CHARS:
            break
    return lines


class _Lines:
    """The lines that a CSV reader takes, one at a time; those that cannot be decoded are kept aside as bad rows."""

    def __init__(self, text: TextSource, dialect: Dialect) -> None:
        self.bad: list[BadRow] = []
        self.first = 0  # the number of the first line that was taken for the row at hand
        self._lines = islice(text.lines(), int(dialect.has_separator_line), None)

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if isinstance(line, BadRow):
                self.bad.append(line)
                continue
            number, text = line
            self.first = self.first or number
            yield text


def _csv_rows(text: TextSource, dialect: Dialect) -> Iterator[Item]:
    lines = _Lines(text, dialect)
    reader = csv_rows(iter(lines), dialect)
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
            yield bad_row(text.path, lines.first, f"not valid CSV ({error})", way_out, kind="quotes")
            continue
        yield from _drain(lines)
        if any("\x00" in cell for cell in cells):
            yield _nul(text, lines.first)
        elif cells:
            yield Record(lines.first, tuple(cells))


def _drain(lines: _Lines) -> Iterator[BadRow]:
    yield from lines.bad
    lines.bad.clear()


def _nul(text: TextSource, line: int) -> BadRow:
    way_out = "Save the file as plain UTF-8 text, or name its format or its encoding"
    return bad_row(text.path, line, "a NUL character", way_out, "\x00", kind="nul")


def _tab_rows(text: TextSource, dialect: Dialect) -> Iterator[Item]:
    """Rows of tabs. A cell may be quoted and go on over lines or tabs, where the row has its width only so."""
    lines = _Pushback(islice(text.lines(), int(dialect.has_separator_line), None))
    width = 0
    for item in lines:
        if isinstance(item, BadRow):
            yield item
            continue
        line, said = item
        if "\x00" in said:
            yield _nul(text, line)
            continue
        if not said.strip():
            continue
        cells = split_tabs(said.rstrip("\r\n"))
        if '"' in said and _opens_quote(said):
            cells = _quoted_row(said, lines, cells, width) or cells
        width = width or len(cells)
        yield Record(line, tuple(cells))


def _opens_quote(line: str) -> bool:
    """Whether a cell begins with a quote that is not closed in it."""
    return any(cell.startswith('"') and cell.count('"') % 2 for cell in line.split("\t"))


def _quoted_row(said: str, lines: _Pushback, plain: list[str], width: int) -> list[str] | None:
    """The row as quotes have it, with the lines that it goes on over; None where it is none of the right width."""
    if width and len(plain) == width:
        following = lines.peek()
        if following is None or len(split_tabs(following)) == width:
            return None
    taken = [said]
    while True:
        try:
            rows = list(csv_rows(taken, Dialect("\t")))
        except csv.Error:
            rows = []
        if len(rows) == 1 and (not width or len(rows[0]) == width):
            return rows[0]
        following = lines.peek()
        if following is None or len(taken) >= MOST_LINES or (rows and len(rows) == 1):
            lines.push(taken[1:])
            return None
        taken.append(following)
        next(lines)


class _Pushback:
    """Numbered lines of which some can be given back."""

    def __init__(self, lines: Iterator[tuple[int, str] | BadRow]) -> None:
        self._lines = lines
        self._waiting: list[tuple[int, str] | BadRow] = []
        self._number = 0

    def __iter__(self) -> Iterator[tuple[int, str] | BadRow]:
        return self

    def __next__(self) -> tuple[int, str] | BadRow:
        item = self._waiting.pop() if self._waiting else next(self._lines)
        if not isinstance(item, BadRow):
            self._number = item[0]
        return item

    def peek(self) -> str | None:
        """The text of the next line; None at the end, or where it cannot be decoded."""
        if not self._waiting:
            item = next(self._lines, None)
            if item is None:
                return None
            self._waiting.append(item)
        item = self._waiting[-1]
        return None if isinstance(item, BadRow) else item[1]

    def push(self, texts: list[str]) -> None:
        """Give back the last lines that were taken."""
        for text in reversed(texts):
            self._waiting.append((self._number, text))
            self._number -= 1
