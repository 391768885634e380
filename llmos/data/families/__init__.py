"""What differs between rows of the families of tasks: a file for each family, found by a task's declaration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.abi.task import Family, spec_of
from llmos.data.families import labels, pairs, spans, tags, text
from llmos.data.files import format_of
from llmos.data.row import Rows


class RowFamily(Protocol):
    """What a family's file has; its rows are of the family's own type, which Any stands for here."""

    def read(self, task: str, file: Path, form: str, data: Data, options: dict[str, Json]) -> Rows[Any]:
        """Every row of the file, which has this format; BadRow at the first that cannot be used."""
        ...

    def stored_columns(self, task: str) -> dict[str, str]:
        """The columns of a stored dataset, with what is in them."""
        ...

    def stored_cells(self, task: str, row: Any) -> tuple[Json, ...]:
        """A row in these columns."""
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


def rows_of(task: str) -> RowFamily:
    """The family of the rows that this task learns from."""
    return FAMILIES[spec_of(task).family]


def read_rows(
    path: str, data: Data, task: str, options: dict[str, Json]
) -> Rows[Any]:  # Any: rows of the task's family
    """Every row of the file for this task; BadRow at the first that cannot be used."""
    file = Path(path)
    return rows_of(task).read(task, file, data.format or format_of(file), data, options)
