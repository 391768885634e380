"""Changed rows of the spans family: the passage changes around its answers, which move; a question, by its letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmos.abi.augmentation import ChangeKind
from llmos.data.augmentation.places import Place, move_places
from llmos.data.noise import Edit, apply
from llmos.data.row import SpanRow

PASSAGE, QUESTION = "passage", "question"
REFUSED: Mapping[ChangeKind, str] = {
    ChangeKind.TAGGED: "its rows have no tags of words",
    ChangeKind.WHOLE: "an answer is a piece of its passage, and said anew it may not stand there",
}


def passages(row: SpanRow, kind: ChangeKind) -> dict[str, tuple[str, tuple[Place, ...]]]:
    """The passage, in which the answers stay; the question too for noise alone: other words ask something else."""
    kept = tuple(_places(row))
    found: dict[str, tuple[str, tuple[Place, ...]]] = {PASSAGE: (row.input[PASSAGE], kept)}
    if kind is ChangeKind.NOISE:
        found[QUESTION] = (row.input[QUESTION], ())
    return found


def _places(row: SpanRow) -> list[Place]:
    return [(start, start + len(answer)) for start, answer in zip(row.starts, row.answers, strict=True)]


def with_edits(row: SpanRow, edits: Mapping[str, Sequence[Edit]]) -> SpanRow | None:
    """The row with another passage and its answers where they now stand; None where one is not there any more."""
    passage = apply(row.input[PASSAGE], edits.get(PASSAGE, ()))
    question = apply(row.input[QUESTION], edits.get(QUESTION, ()))
    moved = move_places(_places(row), edits.get(PASSAGE, ()))
    if not question.strip() or not passage.strip():
        return None
    if any(passage[start:end] != answer for (start, end), answer in zip(moved, row.answers, strict=True)):
        return None
    changed = {**row.input, PASSAGE: passage, QUESTION: question}
    return replace(row, input=changed, starts=tuple(start for start, _ in moved))
