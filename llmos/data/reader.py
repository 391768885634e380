"""Reads a file's rows for a task: one reader for training, evaluation and import, that finds every bad row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.abi.row_path import split_part
from llmos.data.bad_rows import BadRows
from llmos.data.cells import plain_value
from llmos.data.classes import class_names_by_column, with_class_names
from llmos.data.families import InputReader, input_reader_of, rows_of
from llmos.data.formats import lines, open_table
from llmos.data.row import R, Rows
from llmos.data.row_reader import LeftOut, RowReader
from llmos.data.table import Record, Table, bad_row

EMPTY = "empty"


@dataclass(slots=True)
class RowStream(Generic[R]):
    """The rows of one file, one at a time; what was skipped and what was bad is counted meanwhile."""

    table: Table
    reader: RowReader[R]
    stops: bool = True  # at bad rows, rather than skip them
    skips_empty: bool = False
    bad: BadRows = field(default_factory=BadRows)
    skipped: Counter[str] = field(default_factory=Counter)
    count: int = 0  # records so far, the bad ones among them
    class_names: dict[int, tuple[str, ...]] = field(default_factory=dict)  # by column: what its numbers stand for

    def __iter__(self) -> Iterator[R]:
        """Every usable row; at the end BadRow with all that are not, unless they are to be skipped."""
        return (row for row, _ in self.with_extras())

    def with_extras(self) -> Iterator[tuple[R, Mapping[str, Json]]]:
        """As iterating does, and beside each row the file's other columns, which it was not made of."""
        others = self._others()
        for item in self.table:
            self.count += 1
            try:
                record = _record(item)
                row = self._read(record)
            except BadRow as error:
                self.bad.add(error)
                continue
            if isinstance(row, LeftOut):
                self.skipped[row.reason] += 1
                continue
            yield row, _extra(record, others)
        if self.bad.count and (self.stops or self.bad.count == self.count):
            raise self.bad.error(str(self.table.path), self.count)

    def _read(self, record: Record) -> R | LeftOut:
        if self.class_names:
            record = with_class_names(self.table, record, self.class_names)
        reason = self.reader.review.reason(record) if self.reader.review else ""
        if reason:
            return LeftOut(reason)
        return LeftOut(EMPTY) if self.skips_empty and self.reader.is_empty(record) else self.reader.row(record)

    def _others(self) -> list[tuple[int, str]]:
        """The columns that no row is made of, by index and name."""
        used = self.reader.used | ({self.reader.review.at} if self.reader.review else set())
        return [(i, name) for i, name in enumerate(self.table.names) if i not in used]

    def columns_gone(self) -> tuple[str, ...]:
        """Names of the columns that are not even kept beside the rows, such as pandas' numbers of rows."""
        return self.table.left_out

    def left_out(self) -> tuple[str, ...]:
        """Names of the columns that no row was read from, and of fields that begin too late in the file to be one."""
        return (*self.table.left_out, *(name for _, name in self._others()), *self.table.late_names)

    def summary(self, rows: tuple[R, ...] = (), extras: tuple[Mapping[str, Json], ...] = ()) -> Rows[R]:
        """How the file was read, with these rows and their other columns."""
        return Rows(
            rows,
            str(self.table.path),
            self.table.format,
            self.reader.columns,
            self.reader.scheme(),
            dict(self.skipped + self.bad.by_kind),
            self.reader.note,
            dict(+self.reader.counts),
            self.left_out(),
            self.table.encoding,
            self.table.notes,
            extras if any(extras) else (),
        )


def _extra(record: Record, others: Sequence[tuple[int, str]]) -> Mapping[str, Json]:
    """The cells of these columns that are not null, and late fields."""
    found = {name: plain_value(record.cells[i]) for i, name in others if record.cells[i] is not None}
    if record.late:
        found |= {name: plain_value(value) for name, value in record.late.items() if value is not None}
    return found


def _record(item: Record | BadRow) -> Record:
    if isinstance(item, BadRow):
        raise item
    return item


def stream_rows(
    path: str,
    data: Data,
    task: str,
    options: dict[str, Json],
    *,
    is_labelled: bool = True,
    inputs: InputReader | None = None,
) -> RowStream[Any]:
    """The file opened for this task; BadRow or BadInput where its columns do not tell what they are for.

    Of a file that is not labelled the inputs alone are read, whatever labels it has: by `inputs`, where it is not the
    family's own reader of rows that are labelled afterwards.
    """
    family = rows_of(task)
    if not is_labelled and data.format is None and Path(split_part(path)[0]).suffix.lower() == lines.SUFFIX:
        data = replace(data, format=lines.NAME)
    table = open_table(Path(path), data, family.column_names(task), family.example(task))
    if not table.sample:
        raise _unreadable(table)
    if is_labelled:
        reader = family.row_reader(task, table, data, options)
    else:
        reader = (inputs or input_reader_of(task))(task, table, data)
    stream = RowStream(table, reader, data.on_bad_row != "skip", bool(options.get("skip_empty", False)))
    named = data.class_names if is_labelled else None  # of the labels, which are not read
    stream.class_names = class_names_by_column(table, reader.columns.get("label"), named)
    return stream


def _unreadable(table: Table) -> BadRow:
    """The error of a file whose first rows, as many as a sample holds, are all bad."""
    bad = BadRows()
    for item in table:
        if isinstance(item, BadRow):
            bad.add(item)
    way_out = "It needs at least one row of text and label"
    return bad.error(str(table.path), bad.count) if bad.count else bad_row(table.path, 1, "no rows", way_out)


def read_rows(
    path: str, data: Data, task: str, options: dict[str, Json]
) -> Rows[Any]:  # Any: rows of the task's family
    """All rows of the file; one BadRow that lists those that cannot be used, unless they are to be skipped."""
    stream = stream_rows(path, data, task, options)
    pairs = tuple(stream.with_extras())
    rows, extras = tuple(row for row, _ in pairs), tuple(extra for _, extra in pairs)
    if not rows:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in stream.skipped.items()) or "it has none"
        way_out = "It needs at least one row of text and label"
        raise bad_row(Path(path), 1, f"no row is left to read ({counts})", way_out, kind="no_rows")
    stream.reader.check(rows)
    return stream.summary(rows, extras)
