"""What the model that is trained while people label believes of unlabelled rows, and how good it is beside a head.

A head on frozen vectors knows every label so far, the model those that were there when its training began. With few
labels the head is often better, so the one that is right more often on rows that neither has learned from is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from llmos.abi.task import Family, spec_of
from llmos.data.row import LabelRow, TagRow
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.families.tags import TagPrediction
from llmos.evaluation.kept_predictions import Predicts
from llmos.evaluation.label_worth import (
    LEAST_ROWS,
    NOT_LEARNED,
    SENTENCES,
    TEST_ROWS,
    Beliefs,
    Estimate,
    Floats,
    Stored,
    Suggestion,
    doubt_of,
    share_estimate,
    spans_suggested,
    suggest,
)
from llmos.evaluation.self_training import believing

BLOCK_ROWS = 512  # between two looks at whether the process is to stop
MOST_MEASURED = 1_000  # labelled rows: somebody waits, and the interval is 6 points wide at most
OnDone = Callable[[int, int], None]


def _ignore(done: int, total: int) -> None:
    """Nobody asked how far it is."""


class PredictsLabels(Predicts, Protocol):
    """A model that predicts rows, and the labels that it knows."""

    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """How good the model is on labelled rows that it has not learned from: by id whether each is right."""

    right: Mapping[str, float]
    estimate: Estimate | None

    def is_believed(self, head: Beliefs) -> bool:
        """Whether the model is right as often as the head on rows that neither has learned from.

        With fewer than ten of them it is believed.
        """
        shared = [one for one in self.right if one in head.right]
        return len(shared) < LEAST_ROWS or sum(head.right[one] - self.right[one] for one in shared) <= 0


class _Labels:
    """Reads predictions of texts' labels."""

    metric = "accuracy"

    def probabilities(self, predicted: Sequence[LabelPrediction]) -> Floats:
        return np.stack([one.probabilities for one in predicted])

    def suggestions(self, row: LabelRow, one: LabelPrediction, names: Sequence[str]) -> list[Suggestion]:
        return suggest(one.probabilities, names, is_many=row.is_multi)

    def is_right(self, row: LabelRow, one: LabelPrediction, names: Sequence[str]) -> bool:
        if row.is_multi:
            return {names[i] for i in np.flatnonzero(one.probabilities > 0.5).tolist()} == row.kinds
        return row.labels == (names[int(one.probabilities.argmax())],)


class _Tags:
    """Reads predictions of words' tags."""

    metric = SENTENCES

    def probabilities(self, predicted: Sequence[TagPrediction]) -> Floats:
        return doubt_of([one.probabilities for one in predicted])

    def suggestions(self, row: TagRow, one: TagPrediction, names: Sequence[str]) -> list[Suggestion]:
        return [spans_suggested(one.probabilities, names)]

    def is_right(self, row: TagRow, one: TagPrediction, names: Sequence[str]) -> bool:
        return list(row.tags) == one.fill([names[i] for i in one.probabilities.argmax(-1)])


READERS: Mapping[Family, Any] = {Family.LABELS: _Labels(), Family.TAGS: _Tags()}  # Any: each reads its own types


def measure_candidate(
    model: PredictsLabels, task: str, held: Sequence[Stored], on_done: OnDone = _ignore, *, is_test: bool
) -> CandidateScore:
    """Ask the model about labelled rows that it has not learned from: test rows, or others.

    Of many, it is asked about those with the lowest ids, which are keyed digests: the same rows each time, by no order
    of theirs.
    """
    held = sorted(held, key=lambda one: one.id)[:MOST_MEASURED]
    predicted, read = _predict(model, [one.row for one in held], on_done), READERS[spec_of(task).family]
    names = model.labels
    right = {one.id: float(read.is_right(one.row, made, names)) for one, made in zip(held, predicted, strict=True)}
    where = TEST_ROWS if is_test else NOT_LEARNED
    return CandidateScore(right, share_estimate(read.metric, list(right.values()), where) if right else None)


def ask_candidate(
    model: PredictsLabels,
    task: str,
    pool: Sequence[Stored],
    head: Beliefs,
    score: CandidateScore,
    on_done: OnDone = _ignore,
) -> Beliefs:
    """The head's beliefs about the pool, with the model's answers in their place."""
    family, read = believing(task), READERS[spec_of(task).family]
    rows = [family.blank(one.row) for one in pool]
    predicted = _predict(model, rows, on_done)
    names = model.labels
    gain = None if head.estimate is None else head.estimate.gain
    return Beliefs(
        head.vectors,
        tuple(dict.fromkeys([*head.labels, *names])),
        read.probabilities(predicted),
        [read.suggestions(row, one, names) for row, one in zip(rows, predicted, strict=True)],
        None if score.estimate is None else replace(score.estimate, gain=gain),
        score.right,
    )


def _predict(model: PredictsLabels, rows: Sequence[Any], on_done: OnDone) -> list[Any]:  # Any: of the task's family
    predicted: list[Any] = []
    for start in range(0, len(rows), BLOCK_ROWS):
        predicted += model.predict(rows[start : start + BLOCK_ROWS])
        on_done(len(predicted), len(rows))
    return predicted
