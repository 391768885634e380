"""Evaluation on preference rows: how often the better answer is preferred, and by how much.

`reward_accuracy` goes by the implicit reward: how much likelier the model makes an answer than its frozen base does
(Rafailov et al. 2023). `preference_accuracy` goes by the mean log-probability per token, `preference_accuracy_sum` by
that of the whole answer. Ties count half. Of single answers that are good or bad, each is the chance that a good one is
above a bad one. Margins are in nats, of pairs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from torch import Tensor

from llmos.abi.row_outcome import RowOutcome, clip
from llmos.data.row import PreferenceRow, TextRow, UnpairedRow
from llmos.evaluation.families.text_prediction import TextPrediction
from llmos.evaluation.outcomes import row_digest
from llmos.evaluation.statistics.samples import Floats, Sample, Sums, Values, columns_of, ratio
from llmos.evaluation.statistics.separation import Separations
from llmos.nn.next_token import NextHead
from llmos.training.examples import Example
from llmos.training.log_probabilities import answer_log_probabilities
from llmos.training.objectives.preferences import PreferenceTarget

REWARD, PER_TOKEN, WHOLE = "reward", "preference", "preference_sum"
ACCURACIES = {REWARD: "reward_accuracy", PER_TOKEN: "preference_accuracy", WHOLE: "preference_accuracy_sum"}
MARGINS = {REWARD: "reward_margin", PER_TOKEN: "preference_margin"}
METRICS = frozenset((*ACCURACIES.values(), *MARGINS.values()))
PREFERS_WORSE, RATED_LOW, RATED_HIGH = "prefers the worse", "good rated low", "bad rated high"


@dataclass(frozen=True, slots=True)
class PreferencePrediction(TextPrediction):
    """The log-probability of each answer to a row, in nats, with its tokens; `reference` by the frozen base.

    As a text prediction it has the cost of the good answer; of a row with a bad one alone it has none.
    """

    found: tuple[float, ...] = ()
    sizes: tuple[int, ...] = ()
    reference: tuple[float, ...] = ()

    @property
    def scores(self) -> dict[str, tuple[float, ...]]:
        """The score of each answer, by what it goes by."""
        scores = {PER_TOKEN: tuple(x / n for x, n in zip(self.found, self.sizes, strict=True)), WHOLE: self.found}
        if not self.reference:
            return scores
        return {REWARD: tuple(x - its for x, its in zip(self.found, self.reference, strict=True)), **scores}


def predictions_of(
    head: NextHead, examples: Sequence[Example[PreferenceTarget]], logits: Tensor
) -> Iterator[PreferencePrediction]:
    """One prediction an example, from the hidden states of all their answers."""
    values = iter(answer_log_probabilities(head, logits, examples).double().cpu().tolist())
    for one in examples:
        target = one.target
        all_of_it = tuple(next(values) for _ in target.sizes)
        found, sizes = all_of_it[: target.own], target.sizes[: target.own]
        good = target.is_good[0]
        yield PreferencePrediction(
            -found[0] if good else 0.0,
            sizes[0] if good else 0,
            found=found,
            sizes=sizes,
            reference=target.reference[: target.own],
        )


def are_preferences(predicted: Sequence[object]) -> TypeGuard[Sequence[PreferencePrediction]]:
    """Whether these are predictions of preference rows."""
    return bool(predicted) and isinstance(predicted[0], PreferencePrediction)


def can_compute(name: str, predicted: Sequence[object]) -> bool:
    """Whether this metric of preferences is known of these predictions."""
    first = predicted[0] if predicted else None
    known = (key for key in first.scores) if isinstance(first, PreferencePrediction) else iter(())
    return any(name in (ACCURACIES[key], MARGINS.get(key)) for key in known)


def metrics(rows: Sequence[TextRow], predicted: Sequence[PreferencePrediction]) -> dict[str, float]:
    """All metrics of preferences, as numbers."""
    values = sample_of(rows, predicted).values(np.ones((1, len(rows))))
    return {name: float(value[0]) for name, value in values.items()}


def sample_of(rows: Sequence[TextRow], predicted: Sequence[PreferencePrediction]) -> Sample:
    """A row is a unit; of a pair, whether the better answer is above and by how much, of each score."""
    if isinstance(rows[0], UnpairedRow):
        scores = {ACCURACIES[key]: np.array([one.scores[key][0] for one in predicted]) for key in predicted[0].scores}
        return Separations(scores, np.array([float(isinstance(row, UnpairedRow) and row.is_good) for row in rows]))
    kinds = list(predicted[0].scores)
    margins = {key: np.array([one.scores[key][0] - one.scores[key][1] for one in predicted]) for key in kinds}
    rights = {key: (np.sign(margin) + 1) / 2 for key, margin in margins.items()}
    columns = [np.ones(len(rows)), *(rights[key] for key in kinds), *(margins[key] for key in kinds)]

    def metrics_of(sums: Floats) -> Values:
        count = sums[:, 0]
        accuracies = {ACCURACIES[key]: ratio(sums[:, 1 + i], count) for i, key in enumerate(kinds)}
        start = 1 + len(kinds)
        return accuracies | {
            MARGINS[key]: ratio(sums[:, start + i], count) for i, key in enumerate(kinds) if key in MARGINS
        }

    shares = {ACCURACIES[key]: right for key, right in rights.items() if not (right == 0.5).any()}
    return Sums(columns_of(columns), metrics_of, len(rows), shares)


def outcomes(rows: Sequence[TextRow], predicted: Sequence[PreferencePrediction]) -> Iterator[RowOutcome]:
    """Which answer is preferred in each row: by the implicit reward where it is known, else by token."""
    key = REWARD if can_compute(ACCURACIES[REWARD], predicted) else PER_TOKEN
    middle = float(np.median([one.scores[key][0] for one in predicted])) if predicted else 0.0
    for place, (row, one) in enumerate(zip(rows, predicted, strict=True)):
        scores = one.scores[key]
        if isinstance(row, PreferenceRow):
            margin, errors, given = scores[0] - scores[1], (PREFERS_WORSE,), (row.rejected, row.answer)
        else:
            is_good = isinstance(row, UnpairedRow) and row.is_good
            margin = scores[0] - middle if is_good else middle - scores[0]
            errors, given = (RATED_LOW if is_good else RATED_HIGH,), (row.answer, row.answer)
        is_right = margin > 0
        yield RowOutcome(
            place,
            row_digest(row),
            row.file,
            row.line,
            tuple(map(clip, row.texts)),
            clip(row.answer),
            clip(given[is_right]),
            float(is_right),
            () if is_right else errors,
            loss=-margin,
        )
