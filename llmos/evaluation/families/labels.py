"""Evaluation of the labels family: accuracy, precision, recall and F1 of the labels of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from llmos.data.row import LabelRow
from llmos.evaluation.counts import ClassCounts, per_class, summaries, summary
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake, Probabilities
from llmos.evaluation.statistics.samples import Floats, Sample, Sums, Values, beside, ratio
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


def sample_of(task: str, rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings) -> Sample:
    """A text is a unit; of each class whether it was given rightly, given, and true. Labels of the rows that the model
    does not have are classes as well."""
    labels = list(dict.fromkeys([*settings.labels, *(label for row in rows for label in row.labels)]))
    index = {label: i for i, label in enumerate(labels)}
    shares = np.stack([one.probabilities for one in predicted])
    true = np.zeros((len(rows), len(labels)), dtype=bool)
    given = np.zeros_like(true)
    for i, row in enumerate(rows):
        true[i, [index[label] for label in row.labels]] = True
    if _is_multi(settings):
        given[:, : shares.shape[1]] = shares >= _threshold(settings)
    else:
        given[np.arange(len(rows)), shares.argmax(-1)] = True
    right = (true == given).all(axis=1).astype(np.float64)
    classes, there = len(labels), (true | given).sum(axis=0).astype(np.float64)

    def metrics(sums: Floats) -> Values:
        hits, gives, trues = (sums[:, 2 + classes * k : 2 + classes * (k + 1)] for k in range(3))
        return summaries("accuracy", ratio(sums[:, 0], sums[:, 1]), hits, gives, trues, there)

    statistics = beside(np.stack([right, np.ones(len(rows))], axis=1), true & given, given, true)
    return Sums(statistics, metrics, len(rows), {"accuracy": right})


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
