"""Delimited text, JSON lines and Parquet as one table type, before columns have a meaning."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from llmos.abi.error import BadInput, BadRow
from llmos.abi.json_type import Json
from llmos.abi.roots import open_below
from llmos.tasks.text import quote_value

MAX_CELL_CHARS = 16 * 1024 * 1024
HEADER_NAME = re.compile(r"[^\W\d][\w .-]{0,40}")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells with their line numbers. Columns without a header are named by their numbers, from 0."""

    path: Path
    names: tuple[str, ...]
    has_names: bool
    rows: list[tuple[int, tuple[Json, ...]]]

    def column(self, index: int) -> list[Json]:
        return [cells[index] for _, cells in self.rows]


def bad_row(path: Path, line: int, what: str, way_out: str, value: Json = None) -> BadRow:
    """The error of one line: file, line, what is wrong, and how to go on."""
    return BadRow(f"{path}, line {line:,}: {what}. {way_out}", file=str(path), line=line, value=quote_value(value))


def text_of_file(path: Path) -> str:
    """The file as UTF-8 text; BadRow at the first bytes that are not, BadInput if it is empty or not there."""
    data = bytes_of_file(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        bad = error.object[error.start : error.end]
        raise bad_row(
            path,
            line,
            f"the bytes {bad!r} are not UTF-8",
            f"Convert the file first: iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}",
            bad,
        ) from error


def bytes_of_file(path: Path) -> bytes:
    try:
        with open_below(path) as file:
            data = file.read()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Give the path of a file that is there") from error
    if not data.strip():
        raise bad_row(path, 1, "the file is empty", "It needs at least one row of text and label")
    return data


def read_delimited(
    path: Path,
    delimiter: str,
    has_header: bool | None,
    known: Callable[[str], bool],
    nearly_known: Callable[[str], bool] = lambda cell: False,
) -> Table:
    """Commas with quotes as RFC 4180 has them; tabs without, but for a field that is quoted whole."""
    text = text_of_file(path)
    rows = list(_csv_rows(path, text) if delimiter == "," else _tab_rows(text))
    if not rows:
        raise bad_row(path, 1, "the file is empty", "It needs at least one row of text and label")
    width = len(rows[0][1])
    for line, cells in rows:
        if len(cells) != width:
            raise bad_row(
                path,
                line,
                f"{len(cells)} columns where the first row has {width}",
                "Quote a field that contains the delimiter, or remove the row",
                delimiter.join(cells),
            )
    if has_header is None:
        has_header = looks_like_header([cells for _, cells in rows], known, nearly_known)
    first, rest = (rows[0][1], rows[1:]) if has_header else ((), rows)
    names = tuple(name.strip() for name in first) if has_header else tuple(str(i) for i in range(width))
    if not rest:
        raise bad_row(path, 1, "the file has a header and no rows", "Add rows, or say that it has no header")
    return Table(path, names, has_header, [(line, tuple(cells)) for line, cells in rest])


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


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_CELL_CHARS)
    if "\x00" in text:
        raise _nul(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise bad_row(
            path, line, f"not valid CSV ({error})", 'Close the quotes, and double those inside a field: "a ""b"" c"'
        ) from error


def _nul(path: Path, text: str) -> BadRow:
    line = text.count("\n", 0, text.index("\x00")) + 1
    return bad_row(path, line, "a NUL character", "Save the file as plain UTF-8 text, or name its format", "\x00")


def _tab_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    for line, row in enumerate(text.split("\n"), 1):
        row = row.removesuffix("\r")
        if row.strip():
            yield line, [_unquote(cell) for cell in row.split("\t")]


def _unquote(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def read_jsonl(path: Path) -> Table:
    """One object per line; every line has the first one's fields, or is told which it lacks."""
    records: list[tuple[int, dict[str, Json]]] = []
    for number, line in enumerate(text_of_file(path).split("\n"), 1):
        if line.strip():
            records.append((number, _record(path, number, line)))
    names = tuple(dict.fromkeys(name for _, record in records for name in record))
    return Table(path, names, True, [(n, tuple(record.get(name) for name in names)) for n, record in records])


def _record(path: Path, number: int, line: str) -> dict[str, Json]:
    def refuse(value: str) -> NoReturn:
        raise bad_row(path, number, f"{value} is no value that JSON has", "Write null or leave the row out", value)

    try:
        record = json.loads(line, parse_constant=refuse)
    except (json.JSONDecodeError, RecursionError) as error:
        raise bad_row(
            path, number, f"not JSON ({error})", 'Each line is one object: {"text": "...", "label": "..."}', line
        ) from error
    if not isinstance(record, dict):
        raise bad_row(path, number, "no JSON object", 'Each line is one: {"text": "...", "label": "..."}', record)
    return record


def read_parquet(path: Path) -> Table:
    """Line numbers are row numbers, from 1."""
    import pyarrow as pa  # here, for only this format pays for it
    import pyarrow.parquet as pq

    data = bytes_of_file(path)
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise bad_row(path, 1, f"not a Parquet file ({error})", "Name its real format, csv for one") from error
    columns = [table.column(name).to_pylist() for name in table.column_names]
    if not table.num_rows:
        raise bad_row(path, 1, "the file has no rows", "It needs at least one row of text and label")
    return Table(path, tuple(table.column_names), True, list(enumerate(zip(*columns, strict=True), 1)))
