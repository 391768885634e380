"""Evaluation of the labels family: accuracy, precision, recall and F1 of the labels of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from llmos.data.row import LabelRow
from llmos.evaluation.counts import ClassCounts, per_class, summary
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake, Probabilities
from llmos.tasks import Settings
from llmos.training.examples import Example
from llmos.training.objectives.labels import LabelTarget


@dataclass(frozen=True, slots=True)
class LabelPrediction:
    """The probability of each label, [labels]; they sum to 1 unless a text may have many."""

    probabilities: Probabilities


def predictions_of(
    task: str, head: object, examples: Sequence[Example[LabelTarget]], logits: Tensor, settings: Settings
) -> Iterator[LabelPrediction]:
    return map(LabelPrediction, (logits.sigmoid() if _is_multi(settings) else logits.softmax(-1)).cpu().numpy())


def metric(
    name: str, rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings
) -> float | None:
    return _accuracy(rows, predicted, settings) if name == "accuracy" else None


def judge(
    task: str, rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings
) -> EvaluationResult:
    return (_judge_multi if _is_multi(settings) else _judge_single)(rows, predicted, settings)


def _is_multi(settings: Settings) -> bool:
    return bool(settings.options.get("multi_label", False))


def _threshold(settings: Settings) -> float:
    return float(settings.options.get("threshold", 0.5))


def _accuracy(rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings) -> float:
    """The share of texts whose label is right, or all of whose labels are."""
    if _is_multi(settings):
        least = _threshold(settings)
        right = sum(
            set(row.labels) == {settings.labels[i] for i in np.flatnonzero(one.probabilities >= least)}
            for row, one in zip(rows, predicted, strict=True)
        )
    else:
        right = sum(
            row.labels[0] == settings.labels[int(one.probabilities.argmax())]
            for row, one in zip(rows, predicted, strict=True)
        )
    return right / max(1, len(rows))


def _judge_single(
    rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings
) -> EvaluationResult:
    from sklearn.metrics import confusion_matrix

    index = {label: i for i, label in enumerate(settings.labels)}
    true = np.array([index[row.labels[0]] for row in rows])
    shares = np.stack([one.probabilities for one in predicted])
    given = shares.argmax(-1)
    every = range(len(settings.labels))
    wrong = [i for i in np.argsort(-shares.max(-1), kind="stable") if true[i] != given[i]][:MISTAKES]
    mistakes = tuple(
        Mistake(
            rows[i].input["text"],
            settings.labels[true[i]],
            settings.labels[given[i]],
            float(shares[i, given[i]]),
            rows[i].file,
            rows[i].line,
        )
        for i in wrong
    )
    confusion = tuple(tuple(int(n) for n in line) for line in confusion_matrix(true, given, labels=every))
    tally = {
        label: ClassCounts(confusion[i][i], sum(line[i] for line in confusion), sum(confusion[i]))
        for i, label in enumerate(settings.labels)
    }
    metrics = summary("accuracy", _accuracy(rows, predicted, settings), tally)
    return EvaluationResult(metrics, per_class(tally), settings.labels, confusion, mistakes)


def _judge_multi(
    rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings
) -> EvaluationResult:
    least = _threshold(settings)
    true = np.array([[label in row.labels for label in settings.labels] for row in rows])
    shares = np.stack([one.probabilities for one in predicted])
    given = shares >= least
    off = np.where(given, shares, 1 - shares)
    worst = np.where(given != true, off, 0.0).max(-1)
    mistakes = tuple(
        Mistake(
            rows[i].input["text"],
            ", ".join(rows[i].labels) or "none",
            ", ".join(label for label, on in zip(settings.labels, given[i], strict=True) if on) or "none",
            float(worst[i]),
            rows[i].file,
            rows[i].line,
        )
        for i in np.argsort(-worst, kind="stable")[:MISTAKES]
        if worst[i] > 0
    )
    tally = {
        label: ClassCounts(int((true & given)[:, i].sum()), int(given[:, i].sum()), int(true[:, i].sum()))
        for i, label in enumerate(settings.labels)
    }
    metrics = summary("accuracy", _accuracy(rows, predicted, settings), tally)
    return EvaluationResult(metrics, per_class(tally), mistakes=mistakes)
