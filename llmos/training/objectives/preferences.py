"""Examples of preference rows: the answers of a row in one packed example, and what the reference says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmos.data.row import PreferenceRow, Row, UnpairedRow
from llmos.tasks import Rendered, Settings, TrainingTokenizer, teach_last


@dataclass(frozen=True, slots=True)
class PreferenceTarget:
    """The answers of a row, the better first: their tokens, and whether each is good.

    Answers from place `own` on belong to other prompts. `reference` has the log-probability of each answer by the
    frozen base; it is empty until that is computed.
    """

    sizes: tuple[int, ...]
    is_good: tuple[bool, ...]
    own: int
    reference: tuple[float, ...] = ()


def holds_preferences(rows: Sequence[Row]) -> bool:
    """Whether these are preference rows; rows of one run are all of one form."""
    return bool(rows) and isinstance(rows[0], PreferenceRow | UnpairedRow)


def render(task: str, rows: Sequence[Row], tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]:
    """Each prompt with each of its answers, as one input of several sequences."""
    return [_join(_answers(task, row, tokenizer, settings)) for row in rows]


def _answers(task: str, row: Row, tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]:
    teach = teach_last(task)
    assert isinstance(row, PreferenceRow | UnpairedRow)
    said = [row.completion, *([row.rejected_completion] if isinstance(row, PreferenceRow) else [])]
    return [teach(row.input, one, tokenizer, settings) for one in said]


def _join(answers: Iterable[Rendered]) -> Rendered:
    found = list(answers)
    lessons = tuple(lesson for one in found for lesson in one.context)
    return Rendered([], lessons, tuple(part for one in found for part in one.sequences))


def targets_of(rows: Sequence[Row], rendered: Sequence[Rendered], settings: Settings) -> list[PreferenceTarget]:
    return [_target(row, one) for row, one in zip(rows, rendered, strict=True)]


def _target(row: Row, rendered: Rendered) -> PreferenceTarget:
    is_good = (row.is_good,) if isinstance(row, UnpairedRow) else (True, False)
    return PreferenceTarget(tuple(len(lesson.targets) for lesson in rendered.context), is_good, len(is_good))
