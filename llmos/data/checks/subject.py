"""What is checked: the rows of a dataset by split, and what a base says of them, if one was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmos.abi.task import is_generative
from llmos.data.checks.finding import MOST_SHOWN
from llmos.data.checks.near import NearRows, near_rows
from llmos.data.checks.personal_data import mask
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import TextRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
Stored = StoredRow[Any]  # Any: a row of the task's family


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Out-of-fold probabilities [rows, labels] of all rows that have one label, in the order of `places`.

    For tags a row is a word, and `places` name its row and its number in it; else the number is 0.
    """

    labels: tuple[str, ...]
    places: Sequence[tuple[Stored, int]]
    given: NDArray[Any]  # Any: label numbers [rows], or zeros and ones [rows, labels] for several labels per row
    probabilities: NDArray[Any]  # Any: float32


@dataclass(frozen=True)
class Subject:
    """All rows of a dataset, in memory.

    `kept` are ids of rows that somebody has looked at and kept, by kind of finding: they are not reported again.
    """

    task: str
    splits: Mapping[str, Sequence[Stored]]
    kept: Mapping[str, frozenset[str]] = field(default_factory=dict)
    max_tokens: int | None = None  # of the base
    token_counts: Mapping[str, int] = field(default_factory=dict)  # by row id
    control_tokens: tuple[str, ...] = ()
    predictions: Predictions | None = None
    unknown_counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By row id: its characters that the base's tokenizer does not know, and all, white space apart."""

    unknown_examples: tuple[str, ...] = ()  # the commonest of these characters

    @cached_property
    def rows(self) -> list[tuple[str, Stored]]:
        """Every row with its split: test rows first, since others are dropped for their sake."""
        return [(name, row) for name in reversed(SPLITS) for row in self.splits.get(name, ())]

    @cached_property
    def near(self) -> NearRows:
        """Pairs of rows whose texts are almost the same."""
        return near_rows([row.row.texts for _, row in self.rows])

    @property
    def is_generative(self) -> bool:
        """Whether targets are free texts, of which several may be right."""
        return is_generative(self.task)

    def is_kept(self, kind: str, row: Stored) -> bool:
        return row.id in self.kept.get(kind, ())


def texts_of(row: Stored) -> Iterator[str]:
    """Every text of a row, with the answer of a generative task's row."""
    yield from row.row.texts
    if isinstance(row.row, TextRow):
        yield row.row.answer


def show_row(row: Stored) -> str:
    """The beginning of a row's text, on one line, without personal data."""
    text = " | ".join(" ".join(mask(one).split()) for one in row.row.texts)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
