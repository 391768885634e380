"""What a model believes of unlabelled texts: one label each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmos.data.row import LabelRow
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.self_training.selection import Belief
from llmos.tasks import Settings

NOT_YET = ""  # stands where a label will be


def blank(row: LabelRow) -> LabelRow:
    """The row as one whose label counts for nothing."""
    return replace(row, labels=(NOT_YET,))


def beliefs_of(rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings) -> list[Belief]:
    found = []
    for row, one in zip(rows, predicted, strict=True):
        best = int(one.probabilities.argmax())
        label = settings.labels[best]
        found.append(Belief(replace(row, labels=(label,)), label, float(one.probabilities[best])))
    return found


def target(row: LabelRow) -> list[str]:
    return list(row.labels)


def with_target(row: LabelRow, target: Sequence[str]) -> LabelRow:
    return replace(row, labels=tuple(target))


def is_right(row: LabelRow, belief: Belief) -> bool:
    return bool(row.labels == belief.row.labels)


def same_units(row: LabelRow, copy: LabelRow) -> list[bool]:
    """A changed text keeps its label."""
    return [True]
