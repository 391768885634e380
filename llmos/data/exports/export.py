"""What an export is: its format's name, which rows it can carry, what it cannot, and the function that writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmos.abi.json_type import Json
from llmos.abi.objective import PLAIN
from llmos.abi.task import PREFERENCES, Family, spec_of
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.families import rows_of

OWN = ("id", "split", "file", "line", "extra", "origin")


@dataclass(frozen=True, slots=True)
class ExportedDataset:
    """What the writers know of the dataset: its task and options, all of its labels, the names of its other columns."""

    task: str
    options: Mapping[str, Json] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    scheme: str = "iob2"  # of tags, in formats of a word a line

    @property
    def family(self) -> Family:
        return spec_of(self.task).family

    @property
    def form(self) -> str:
        """The form of its preference rows; `off` for other rows."""
        return str(self.options.get(PREFERENCES.name) or PLAIN)

    @property
    def is_multi(self) -> bool:
        """Whether a row may have several labels."""
        return bool(self.options.get("multi_label"))

    def cells(self, stored: StoredRow[Any]) -> dict[str, Json]:
        """The columns of a row's task."""
        family = rows_of(self.task)
        names = family.stored_columns(self.task, self.options)
        cells = zip(names, family.stored_cells(self.task, stored.row), strict=True)
        return {name: list(cell) if isinstance(cell, tuple) else cell for name, cell in cells}

    def others(self, stored: StoredRow[Any]) -> dict[str, Json]:
        """The row's id and the source's other columns, of which those named like the row's own are left out."""
        taken = {*rows_of(self.task).stored_columns(self.task, self.options), *OWN}
        extra = {name: value for name, value in stored.extra.items() if name not in taken and name in self.extras}
        return {"id": stored.id, **extra}


Write = Callable[[Path, Iterable[StoredRow[Any]], ExportedDataset], None]


@dataclass(frozen=True, slots=True)
class Export:
    """A format to export to. `loses` says what of a row is not in the file, for people; empty if nothing is lost."""

    name: str
    ending: str
    families: frozenset[Family]
    write: Write
    loses: str = ""
    tasks: frozenset[str] = frozenset()  # of the families, only these; empty: all
    has_cells: bool = False  # one for each column, of which that of the label may be empty: rows without one fit too
    forms: frozenset[str] = frozenset()  # of preference rows; empty: all with cells, else none

    def carries(self, form: str) -> bool:
        """Whether it can say preference rows of this form; `off`: other rows."""
        if self.forms or form == PLAIN:
            return form in self.forms or (form == PLAIN and not self.forms)
        return self.has_cells
