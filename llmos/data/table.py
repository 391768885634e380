"""A table: records of cells with their line numbers, read once from first to last, before columns have a meaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from llmos.abi.error import BadInput, BadRow
from llmos.abi.json_type import Json
from llmos.data.annotations import plain_row
from llmos.tasks.text import quote_value

SAMPLE_ROWS = 20_000
SAMPLE_CHARS = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file: the line where it begins, and its cells in the order of the table's names.

    `late` has fields that are no column, because they begin behind the sample.
    """

    line: int
    cells: tuple[Json, ...]
    late: Mapping[str, Json] | None = None


T = TypeVar("T")
Item = Record | BadRow  # a row, or why the row that stands there cannot be read


@dataclass(slots=True)
class Table:
    """Records of one file. Columns without a header are named by their numbers, from 0.

    `sample` is its beginning, which is what columns are chosen by; iterating gives all records, and only once.
    """

    path: Path
    format: str
    names: tuple[str, ...]
    has_names: bool
    sample: list[Record]
    is_whole: bool = True  # the sample is all there is
    _items: Iterator[Item] = field(default_factory=lambda: iter(()))
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # what the numbers of a column stand for
    late_names: Counter[str] = field(default_factory=Counter)  # fields that begin behind the sample, and how often
    left_out: tuple[str, ...] = ()  # columns that the format itself leaves out, such as the numbers of rows
    notes: tuple[str, ...] = ()  # what a user should know of how the file was read
    encoding: str = ""  # of the text, where it is not UTF-8

    def __iter__(self) -> Iterator[Item]:
        return self._items

    def column(self, index: int) -> list[Json]:
        """The cells of this column in the sample."""
        return [record.cells[index] for record in self.sample]


def table_of(
    path: Path,
    form: str,
    names: Sequence[str],
    items: Iterable[Item],
    *,
    has_names: bool = True,
    class_names: Mapping[str, tuple[str, ...]] | None = None,
) -> Table:
    """A table of these records; so many of the first are read now as its sample holds."""
    read = iter(items)
    first, is_whole = take_sample(read)
    sample = [item for item in first if isinstance(item, Record)]
    return Table(path, form, tuple(names), has_names, sample, is_whole, chain(first, read), class_names or {})


def table_of_objects(path: Path, form: str, objects: Iterable[tuple[int, Mapping[str, Json]] | BadRow]) -> Table:
    """A table of JSON objects: a column for every field of the sample; what a row lacks is None."""
    read = (one if isinstance(one, BadRow) else (one[0], plain_row(one[1])) for one in objects)
    first, is_whole = take_sample(read)
    names = tuple(dict.fromkeys(name for one in first if not isinstance(one, BadRow) for name in one[1]))
    late: Counter[str] = Counter()

    def items() -> Iterator[Item]:
        known = set(names)
        for one in chain(first, read):
            if isinstance(one, BadRow):
                yield one
                continue
            line, found = one
            further = {name: value for name, value in found.items() if name not in known}
            late.update(further)
            yield Record(line, tuple(found.get(name) for name in names), further or None)

    table = table_of(path, form, names, items())
    table.is_whole, table.late_names = is_whole, late
    return table


def refuse_marked(table: Table, task: str, wanted: str) -> None:
    """BadInput where the file has tagged words or questions, which hold nothing of what is wanted."""
    if table.format in ("conll", "conllu", "squad"):
        raise BadInput(
            f"{table.path.name} is read as {table.format}, which holds no {wanted}. Give csv, tsv, jsonl or parquet",
            file=str(table.path),
            format=table.format,
            task=task,
        )


def take_sample(items: Iterator[T]) -> tuple[list[T], bool]:
    """The first items, as many as a sample holds, and whether that was all of them."""
    taken: list[T] = []
    chars = 0
    for item in islice(items, SAMPLE_ROWS):
        taken.append(item)
        chars += _size(item)
        if chars > SAMPLE_CHARS:
            return taken, False
    return taken, len(taken) < SAMPLE_ROWS


def _size(item: object) -> int:
    cells = item.cells if isinstance(item, Record) else ()
    if isinstance(item, tuple) and isinstance(item[1], Mapping):
        cells = tuple(item[1].values())
    return sum(len(cell) if isinstance(cell, (str, list)) else 8 for cell in cells)


def bad_row(
    path: Path, line: int, what: str, way_out: str, value: Json = None, *, kind: str = "other", **detail: Json
) -> BadRow:
    """The error of one row: file, line, what is wrong and how to go on; `kind` is a slug that equal problems share."""
    return BadRow(
        f"{path}, line {line:,}: {what}. {way_out}",
        file=str(path),
        line=line,
        value=quote_value(value),
        kind=kind,
        problem=what,
        way_out=way_out,
        **detail,
    )
