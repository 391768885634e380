"""How one table's rows are read: which columns are for what, and the function that makes a row of a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

from llmos.abi.json_type import Json
from llmos.data.cells import is_filled
from llmos.data.review import Review
from llmos.data.row import R
from llmos.data.table import Record


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not read, as the user or the format wants it, and why: `empty`, `rejected` ..."""

    reason: str


@dataclass(frozen=True, slots=True)
class RowReader(Generic[R]):
    """How a family reads the rows of one table: what its columns are for, and the function that makes a row.

    `used` are indexes of all columns that `row` looks at; the others are named as left out.
    """

    row: Callable[[Record], R | LeftOut]  # BadRow where it cannot be used
    columns: dict[str, str]
    used: frozenset[int]
    required: tuple[tuple[int, ...], ...] = ()  # groups of columns of which one must be filled, or the row is empty
    note: str = ""
    check: Callable[[Sequence[R]], None] = lambda rows: None  # BadRow for what only all rows together show
    scheme: Callable[[], str] = lambda: ""  # the tagging scheme of the rows so far

    review: Review | None = None  # which rows annotators have rejected
    counts: Counter[str] = field(default_factory=Counter)  # of what rows were changed in, in words
    options: Mapping[str, Json] = field(default_factory=dict)  # those of a stored dataset that the table decided

    def is_empty(self, record: Record) -> bool:
        """Whether the row has nothing to read where something must be."""
        return any(not any(is_filled(record.cells[i]) for i in group) for group in self.required)
