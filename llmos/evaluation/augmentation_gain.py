"""What added rows give, measured cheaply: linear heads on the base's frozen vectors, with and without them, compared on
the validation rows.

It is no measurement of the trained model: the encoder that is fine-tuned may gain more or less. It is paired, takes one
forward pass of each row, and decides `augment: auto`. Both heads have the same penalty per row, chosen on the training
rows alone: copies that change nothing give no gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmos.abi.json_type import Json
from llmos.abi.task import Family, spec_of
from llmos.data.augmentation.added import AddedRow
from llmos.data.row import LabelRow, Row, TagRow
from llmos.data.splits import Splits
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.families.tags import TagPrediction
from llmos.evaluation.linear_head import choose_penalty, fit
from llmos.evaluation.metrics import sample_of
from llmos.evaluation.statistics.comparison import Comparison, Standing, compare
from llmos.evaluation.statistics.samples import Sample
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.tasks import Settings

HELD_OUT = 5  # one of this many training rows chooses the penalty
MOST_ROWS = 4000  # of the training rows, those that heads are fitted on; of the validation rows likewise
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AugmentationGain:
    """The primary metric of a head with the added rows (`ours`) and of one without (`theirs`), on validation rows."""

    comparison: Comparison
    train_rows: int
    added_rows: int

    @property
    def helps(self) -> bool:
        """Whether the head is better with the added rows, and chance would seldom make it so."""
        return self.comparison.standing() is Standing.BETTER

    def plain(self) -> dict[str, Json]:
        """As evidence keeps it."""
        return {
            "measured": "linear heads on the base's frozen vectors, on the validation rows",
            **self.comparison.plain(),
            "standing": str(self.comparison.standing()),
            "train_rows": self.train_rows,
            "added_rows": self.added_rows,
        }

    def __str__(self) -> str:
        one = self.comparison
        return (
            f"a linear head on the base's frozen vectors has {one.metric} {one.ours:.4f} with {self.added_rows:,} "
            f"added rows and {one.theirs:.4f} without, on {one.rows:,} validation rows "
            f"({one.difference:+.4f}, {one.low:+.4f} to {one.high:+.4f}: {one.standing()})"
        )


def can_measure(task: str) -> bool:
    """Whether heads on frozen vectors do this task: those of labels and of tags."""
    return spec_of(task).family in HEADS


@dataclass(slots=True)
class GainMeter:
    """Measures added rows of one run; what does not change between them is computed once."""

    task: str
    splits: Splits
    encoder: FrozenEncoder
    settings: Settings
    report: Callable[[int, int], None] = lambda done, total: None
    _plain: Sample | None = None
    _train: tuple[Vectors, NDArray[Any]] | None = None  # Any: targets as `fit` takes them
    _validation: list[Vectors] = field(default_factory=list)
    _l2: float = 1.0  # of the training rows alone

    @property
    def train(self) -> Sequence[Row]:
        return self.splits.train[:MOST_ROWS]

    @property
    def validation(self) -> Sequence[Row]:
        return self.splits.validation[:MOST_ROWS]

    def gain(self, added: Sequence[AddedRow]) -> AugmentationGain | None:
        """The gain by these rows; None if none was added to the rows that heads are fitted on."""
        heads = HEADS[spec_of(self.task).family]
        mine = [one.row for one in added if one.parent < len(self.train)]
        if not mine or not self.validation:
            return None
        if self._train is None:
            self._train = heads.inputs(self.encoder, self.train, self.settings)
            self._validation = heads.vectors(self.encoder, self.validation)
            x, y = self._train
            is_train = np.arange(len(y)) % HELD_OUT != 0
            self._l2 = choose_penalty(x, y, is_train, classes=len(self.settings.labels))
            self._plain = self._sample(x, y)
        x, y = heads.inputs(self.encoder, mine, self.settings)
        assert self._plain is not None
        with_added = self._sample(np.concatenate([self._train[0], x]), np.concatenate([self._train[1], y]))
        found = compare(with_added, self._plain, spec_of(self.task).primary_metric)
        return None if found is None else AugmentationGain(found, len(self.train), len(mine))

    def _sample(self, x: Vectors, y: NDArray[Any]) -> Sample:
        heads = HEADS[spec_of(self.task).family]
        assert self._train is not None
        head = fit(x, y, classes=len(self.settings.labels), l2=self._l2 * len(y) / len(self._train[1]))
        predicted = [heads.prediction(head.probabilities(one)) for one in self._validation]
        return sample_of(self.task, self.validation, predicted, self.settings)


class LabelHeads:
    """Heads for texts with labels."""

    @staticmethod
    def vectors(encoder: FrozenEncoder, rows: Sequence[LabelRow]) -> list[Vectors]:
        return list(encoder.texts([row.input["text"] for row in rows])[:, None, :])

    @staticmethod
    def inputs(
        encoder: FrozenEncoder, rows: Sequence[LabelRow], settings: Settings
    ) -> tuple[Vectors, NDArray[Any]]:  # Any: class numbers, or zeros and ones for several labels
        index = {label: i for i, label in enumerate(settings.labels)}
        x = encoder.texts([row.input["text"] for row in rows])
        if not settings.options.get("multi_label"):
            return x, np.array([index[row.labels[0]] for row in rows])
        y = np.zeros((len(rows), len(index)), dtype=np.float32)
        for i, row in enumerate(rows):
            y[i, [index[label] for label in row.labels]] = 1
        return x, y

    @staticmethod
    def prediction(probabilities: Vectors) -> LabelPrediction:
        return LabelPrediction(probabilities[0])


class TagHeads:
    """Heads for the words of sentences."""

    @staticmethod
    def vectors(encoder: FrozenEncoder, rows: Sequence[TagRow]) -> list[Vectors]:
        found = encoder.words([row.input["tokens"] for row in rows])
        return [found.of(i) for i in range(len(rows))]

    @staticmethod
    def inputs(
        encoder: FrozenEncoder, rows: Sequence[TagRow], settings: Settings
    ) -> tuple[Vectors, NDArray[Any]]:  # Any: class numbers
        index = {label: i for i, label in enumerate(settings.labels)}
        found = encoder.words([row.input["tokens"] for row in rows])
        return found.vectors, np.array([index[tag] for row in rows for tag in row.tags])

    @staticmethod
    def prediction(probabilities: Vectors) -> TagPrediction:
        return TagPrediction(probabilities)


HEADS: dict[Family, Any] = {Family.LABELS: LabelHeads, Family.TAGS: TagHeads}  # Any: rows of the family's own type
