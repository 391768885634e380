"""Rows of the pairs family: two texts and a number, a grade of a query's document or a score of two texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.abi.task import Family, Output, spec_of, tasks_in
from llmos.data.cells import is_number, number_in, text_in
from llmos.data.columns import Roles, assign_columns, first_of
from llmos.data.row import PairRow, Row
from llmos.data.row_reader import RowReader
from llmos.data.table import Record, Table, bad_row, refuse_marked

GRADES = ("label", "relevance", "score", "grade", "rating", "target", "relevant", "similarity")


@dataclass(frozen=True, slots=True)
class PairShape:
    """The columns of a task of this family: in the files that users bring, and in a stored dataset."""

    roles: Roles
    columns: dict[str, str]
    is_graded: bool = False  # documents of a query, with numbers from 0
    labels: tuple[str, ...] = ()  # what the head gives


GRADED = PairShape(
    {
        "query": ("query", "question", "search"),
        "document": ("document", "passage", "doc", "text", "answer", "content", "body", "candidate"),
        "label": GRADES,
    },
    {"query": "query", "document": "document", "label": "grade, 0 for not relevant"},
    is_graded=True,
    labels=("relevance",),
)
SCORED = PairShape(
    {
        "text": ("text", "sentence1", "sentence_1", "text1", "text_1", "sentence_a", "text_a", "first", "anchor"),
        "other": ("other", "sentence2", "sentence_2", "text2", "text_2", "sentence_b", "text_b", "second", "pair"),
        "score": ("score", "similarity", *GRADES),
    },
    {"text": "text", "other": "the text it is compared with", "score": "score"},
)


def shape_of(task: str) -> PairShape:
    return GRADED if spec_of(task).output is Output.RANKING else SCORED


def column_names(task: str) -> frozenset[str]:
    """Names of columns besides those that every task knows."""
    return frozenset(name for names in shape_of(task).roles.values() for name in names)


def plain_tasks(table: Table) -> tuple[str, ...]:
    """Those of the family whose two texts and number each have a column of a name that no other task has."""
    names = [name.lower() for name in table.names]
    found = []
    for task in tasks_in(Family.PAIRS):
        first, second, number = shape_of(task).roles.values()
        is_graded = shape_of(task).is_graded
        one, other = (first[:1], second[:3]) if is_graded else (first[1:], second[1:])
        at = first_of(names, number)
        if first_of(names, one) is not None and first_of(names, other) is not None and at is not None:
            cells = [cell for cell in table.column(at) if cell not in (None, "")]
            found += [task] if cells and all(is_number(str(cell)) for cell in cells) else []
    return tuple(found)


def example(task: str) -> str:
    """A row as JSON, for messages."""
    return "{" + ", ".join(f'"{role}": ...' for role in shape_of(task).roles) + "}"


def row_reader(task: str, table: Table, data: Data, options: dict[str, Json]) -> RowReader[PairRow]:
    """Reads two texts and a number; BadInput where the table holds no pairs."""
    refuse_marked(table, task, "pairs of texts")
    shape = shape_of(task)
    places, note = assign_columns(table, shape.roles, data)
    first, second, number = shape.roles

    def row(record: Record) -> PairRow:
        line, cells = record.line, record.cells
        one, other = (text_in(table, line, cells[places[role]], role) for role in (first, second))
        value = number_in(table, line, cells[places[number]], number)
        if shape.is_graded and value < 0:
            way_out = "0 says not relevant, and more is better"
            raise bad_row(table.path, line, f"the label is {value:g}", way_out, value, kind="negative_grade")
        return PairRow(_input(task, one, other), value, str(table.path), line)

    columns = {role: table.names[i] for role, i in places.items()}
    required = tuple((places[role],) for role in (first, second))
    return RowReader(row, columns, frozenset(places.values()), required, note)


def stored_columns(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The columns of a stored dataset."""
    return shape_of(task).columns


def stored_cells(task: str, row: PairRow) -> tuple[Json, ...]:
    return *row.texts, row.score


def stored_types(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The type of each column of a stored dataset."""
    first, second, number = shape_of(task).columns
    return {first: "text", second: "text", number: "number"}


def stored_row(task: str, options: Mapping[str, Json], cells: Mapping[str, Json], file: str, line: int) -> PairRow:
    one, other, value = (cells[name] for name in shape_of(task).columns)
    return PairRow(_input(task, one, other), float(value), file, line)


def _input(task: str, one: str, other: str) -> dict[str, Json]:
    return {"query": one, "documents": [other]} if shape_of(task).is_graded else {"text": one, "other": other}


def labels_of(task: str, rows: Iterable[PairRow]) -> tuple[str, ...]:
    """What the head gives; BadInput if all rows have the same number."""
    scores = {row.score for row in rows}
    if len(scores) < 2:
        only = ", ".join(f"{score}" for score in scores) or "none"
        raise BadInput(
            f"Every row has the same number ({only}), so there is nothing to tell apart. Add rows of another",
            reason="one_number",
        )
    return shape_of(task).labels


def refuse_unknown(rows: Iterable[Row], labels: Sequence[str]) -> None:
    """Nothing: these rows have no labels."""


def options_of(task: str, rows: Sequence[PairRow]) -> dict[str, Json]:
    """Which number means the best."""
    return {"scale": scale_of(rows)}


def scale_of(rows: Sequence[PairRow]) -> float:
    """What numbers are divided by so that the best is 1; scores that lie in -1 to 1 already are left as they are."""
    return max(1.0, *(abs(row.score) for row in rows))
