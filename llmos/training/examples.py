"""Examples: rows as token ids with targets, rendered as in serving; and the batches of an epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from llmos.abi.error import TooLong
from llmos.abi.objective import takes_preferences
from llmos.data.row import Row
from llmos.data.table import bad_row
from llmos.nn.packing import cut_rows
from llmos.tasks import Rendered, Settings, TrainingTokenizer
from llmos.training.objectives import objective_of, preferences

RENDERED_AT_ONCE = 1024
WINDOW_BATCHES = 16  # sort by length within windows of this many batches

T = TypeVar("T")  # the target type of the family


@dataclass(frozen=True, slots=True)
class Example(Generic[T]):
    """One row as the forward pass takes it, in one or several sequences, with its target."""

    rendered: Rendered
    target: T

    @property
    def ids(self) -> list[int]:
        return self.rendered.ids

    @property
    def sequences(self) -> tuple[list[int], ...]:
        return self.rendered.sequences

    @property
    def size(self) -> int:
        """The tokens of all its sequences."""
        return self.rendered.size


def make_examples(
    task: str, rows: Sequence[Row], tokenizer: TrainingTokenizer, settings: Settings
) -> list[Example[Any]]:  # Any: the target of the task's family
    """One example per row, in order; BadRow at the first row longer than the model's limit."""
    targets_of = _form_of(task, rows).targets_of
    examples: list[Example[Any]] = []
    for start in range(0, len(rows), RENDERED_AT_ONCE):
        part = rows[start : start + RENDERED_AT_ONCE]
        rendered = _render_rows(task, part, tokenizer, settings)
        examples += map(Example, rendered, targets_of(part, rendered, settings))
    return examples


class _Form(Protocol):
    """How rows become examples. Any stands for the rows and targets of a family."""

    def render(self, task: str, rows: Any, tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]: ...
    def targets_of(self, rows: Any, rendered: Sequence[Rendered], settings: Settings) -> Sequence[Any]: ...


def _form_of(task: str, rows: Sequence[Row]) -> _Form:
    """That of the task's family; preference rows have their own, whatever is learned of them."""
    is_preference = takes_preferences(task) and preferences.holds_preferences(rows)
    form: _Form = preferences if is_preference else objective_of(task)
    return form


def _render_rows(task: str, rows: Sequence[Row], tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]:
    render = _form_of(task, rows).render
    try:
        return render(task, rows, tokenizer, settings)
    except TooLong:
        return [_render_one(task, row, tokenizer, settings) for row in rows]


def _render_one(task: str, row: Row, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
    try:
        return _form_of(task, [row]).render(task, [row], tokenizer, settings)[0]
    except TooLong as error:
        size, limit = error.detail["size"], error.detail["limit"]
        unit = "tokens" if (most := error.detail.get("most_chars")) is None else "characters"
        takes = f"{limit:,}" if most is None else f"{limit:,} tokens, at most {most:,} characters"
        raise bad_row(
            Path(row.file),
            row.line,
            f"a text of {size:,} {unit}, and the model takes {takes}",
            "Shorten it, or set the option truncate to have long texts cut",
            row.input,
            kind="too_long",
            **error.detail,
        ) from error


def batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """The examples of each optimizer step of an epoch: shuffled, then sorted by length within windows.

    Sequences of equal length attend in one product. Sorting the whole epoch would order its steps from short to long.
    """
    order = list(range(len(lengths)))
    shuffle = random.Random(f"{seed} epoch {epoch}").shuffle
    shuffle(order)
    made: list[list[int]] = []
    for start in range(0, len(order), size * WINDOW_BATCHES):
        window = sorted(order[start : start + size * WINDOW_BATCHES], key=lengths.__getitem__)
        made += [window[i : i + size] for i in range(0, len(window), size)]
    shuffle(made)
    return made


def passes(batch: Sequence[int], lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Cut the batch into micro-batches of at most `token_budget` tokens, sorted by length; a longer example is one
    alone."""
    return cut_rows(sorted(batch, key=lengths.__getitem__), lengths, token_budget)
