"""A grid of cells as a table: its header, its width, and the columns that are no data, such as the numbers of rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.data.decoding import empty
from llmos.data.formats.source import Source
from llmos.data.table import Item, Record, Table, bad_row, table_of, take_sample

HEADER_NAME = re.compile(r"[^\W\d][\w .-]{0,40}")
LEAST_ROWS = 2  # that tell what a column without a name holds


def table_of_grid(source: Source, form: str, rows: Iterator[Item], delimiter: str = ",") -> Table:
    """The rows; the first that is read names the columns, if it looks like a header or the user says so."""
    path = source.path
    first, _ = take_sample(rows)
    readable = [row for row in first if isinstance(row, Record)]
    if not readable:
        raise next((row for row in first if isinstance(row, BadRow)), empty(path))
    header, *others = ([_text(cell) for cell in row.cells] for row in readable)
    width = len(header)
    if _lacks_name_of_index(header, others, source):
        header, width = ["", *header], width + 1
    ends_empty = _ends_empty(header, others)
    width = len(header) - ends_empty
    has_index = _has_index(header[:width], [row for row in others if len(row) == len(header)])
    has_header = source.data.has_header
    if has_header is None:
        alike = [row[has_index:width] for row in (header, *others) if len(row) in (width, width + ends_empty)]
        has_header = has_index or looks_like_header(alike, source.is_column_name, source.is_nearly_column_name)
    if has_header and len(first) == 1:
        way_out = "Add rows, or say that it has no header"
        raise bad_row(path, 1, "the file has a header and no rows", way_out, kind="no_rows")
    names = [_name(i, cell, has_header) for i, cell in enumerate(header[:width])]
    items = (row for row in chain(first, rows) if not has_header or row is not readable[0])
    kept = _project(source, items, width, int(has_index), delimiter)
    shown = names[has_index:] if has_header else list(map(str, range(width - has_index)))
    table = table_of(path, form, shown, kept, has_names=has_header)
    table.left_out = tuple(names[:has_index])
    return table


def _text(cell: Json) -> str:
    return "" if cell is None else str(cell).strip()


def _name(index: int, cell: str, has_header: bool) -> str:
    """A column without a name goes by its number, as pandas calls it."""
    return cell if has_header and cell else f"Unnamed: {index}"


def _lacks_name_of_index(header: Sequence[str], rows: Sequence[Sequence[str]], source: Source) -> bool:
    """R's tables: every row has a number before its cells, and the header has no name for it."""
    wider = [row for row in rows if len(row) == len(header) + 1]
    if len(wider) < LEAST_ROWS or len(wider) < len(rows) or not any(map(source.is_column_name, header)):
        return False
    return _are_numbers([row[0] for row in wider])


def _has_index(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first column has no name and numbers the rows."""
    return len(header) > 1 and header[0] == "" and len(rows) > 0 and _are_numbers([row[0] for row in rows])


def _are_numbers(cells: Sequence[str]) -> bool:
    return len(set(cells)) == len(cells) and all(cell.removesuffix(".0").isdecimal() for cell in cells)


def _ends_empty(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How many columns at the end have neither a name nor a cell: every line ends with a delimiter."""
    alike = [row for row in rows if len(row) == len(header)]
    count = 0
    while count < len(header) - 1 and alike and not any(row[-1 - count] for row in (header, *alike)):
        count += 1
    return count


def _project(source: Source, rows: Iterator[Item], width: int, start: int, delimiter: str) -> Iterator[Item]:
    """The cells from the first that is kept; a row may end with empty cells that the first one does not have."""
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        cells = row.cells
        if len(cells) > width and not any(map(_text, cells[width:])):
            cells = cells[:width]
        if len(cells) == width:
            yield Record(row.line, cells[start:]) if start or cells is not row.cells else row
            continue
        yield bad_row(
            source.path,
            row.line,
            f"{len(cells)} columns where the first row has {width}",
            "Quote a field that contains the delimiter, or remove the row",
            delimiter.join(map(str, cells)),
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
