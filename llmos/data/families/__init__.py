"""What differs between rows of the families of tasks: a file for each family, found by a task's declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.abi.task import Family, spec_of, tasks_in
from llmos.data.families import labels, pairs, prompts, spans, tags, text
from llmos.data.row_reader import RowReader
from llmos.data.table import Table


class RowFamily(Protocol):
    """What a family's file has; its rows are of the family's own type, which Any stands for here."""

    def column_names(self, task: str) -> frozenset[str]:
        """Names of columns that this task knows, besides those that all tasks know: a header is known by them."""
        ...

    def plain_tasks(self, table: Table) -> tuple[str, ...]:
        """The tasks of this family that the table is plainly for, by its format, its columns and what is in them."""
        ...

    def example(self, task: str) -> str:
        """A row as JSON, as messages show it."""
        ...

    def row_reader(self, task: str, table: Table, data: Data, options: dict[str, Json]) -> RowReader[Any]:
        """How rows are made of this table's records; BadRow or BadInput where its columns do not tell."""
        ...

    def stored_columns(self, task: str, options: Mapping[str, Json]) -> dict[str, str]:
        """The columns of a dataset stored with these options, with what is in them."""
        ...

    def stored_cells(self, task: str, row: Any) -> tuple[Json, ...]:
        """A row in these columns."""
        ...

    def stored_types(self, task: str, options: Mapping[str, Json]) -> dict[str, str]:
        """The type of each column of `stored_columns`: text, texts, integers, number or flag."""
        ...

    def stored_row(
        self, task: str, options: Mapping[str, Json], cells: Mapping[str, Json], file: str, line: int
    ) -> Any:
        """The row in these cells, which `stored_cells` made."""
        ...

    def labels_of(self, task: str, rows: Any) -> tuple[str, ...]:
        """What the head tells apart, in its order; BadInput if nothing could be learned from these rows."""
        ...

    def refuse_unknown(self, rows: Any, labels: Sequence[str]) -> None:
        """BadRow at the first label that a model of these labels cannot be right about."""
        ...

    def options_of(self, task: str, rows: Any) -> dict[str, Json]:
        """The options that follow from the training rows, where the recipe leaves them open."""
        ...


FAMILIES: Mapping[Family, RowFamily] = {
    Family.LABELS: labels,
    Family.TAGS: tags,
    Family.SPANS: spans,
    Family.PAIRS: pairs,
    Family.TEXT: text,
}


InputReader = Callable[[str, Table, Data], RowReader[Any]]
INPUT_READERS: Mapping[Family, InputReader] = {Family.LABELS: labels.input_reader, Family.TAGS: tags.input_reader}
TAUGHT_READERS: Mapping[Family, InputReader] = {Family.TEXT: prompts.input_reader}


def taught_reader_of(task: str) -> InputReader:
    """How rows are made that a teacher is to answer; BadInput for a task whose rows no teacher answers."""
    return TAUGHT_READERS.get(spec_of(task).family) or input_reader_of(task)


def input_reader_of(task: str) -> InputReader:
    """How rows are made whose labels nobody has given yet; BadInput for a task whose rows have none."""
    family = spec_of(task).family
    if family not in INPUT_READERS:
        able = [name for one in INPUT_READERS for name in tasks_in(one)]
        raise BadInput(
            f"Rows of {task} are not labelled afterwards. Those of these tasks are: {', '.join(able)}",
            key="unlabelled",
            task=task,
            expected=able,
        )
    return INPUT_READERS[family]


def rows_of(task: str) -> RowFamily:
    """The family of the rows that this task learns from."""
    return FAMILIES[spec_of(task).family]
