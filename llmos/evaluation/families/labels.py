"""Evaluation of the labels family: accuracy, precision, recall and F1 of the labels of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from llmos.abi.json_type import Json
from llmos.abi.row_outcome import ARROW, RowOutcome, clip
from llmos.data.row import LabelRow
from llmos.evaluation.calibration import Indices, log_shares, temper
from llmos.evaluation.confidence import Answers, Decisions
from llmos.evaluation.counts import ClassCounts, per_class, summaries, summary
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake, Probabilities
from llmos.evaluation.outcomes import INVENTED, LEAST_LIKELY, MISSED, NONE, row_digest
from llmos.evaluation.statistics.samples import Floats, Sample, Sums, Values, beside, ratio
from llmos.tasks import Settings
from llmos.tasks.calibration import Calibration
from llmos.tasks.classify import thresholds_of
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


def from_outputs(rows: Sequence[LabelRow], outputs: Sequence[Json], settings: Settings) -> list[LabelPrediction]:
    """The served scores of all labels."""
    return [
        LabelPrediction(np.array([output["scores"].get(label, 0.0) for label in settings.labels], np.float32))
        for output in outputs
    ]


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
        given[:, : shares.shape[1]] = shares >= _thresholds(settings)
    else:
        given[np.arange(len(rows)), shares.argmax(-1)] = True
    right = (true == given).all(axis=1).astype(np.float64)
    classes = len(labels)

    def metrics(sums: Floats) -> Values:
        hits, gives, trues = (sums[:, 2 + classes * k : 2 + classes * (k + 1)] for k in range(3))
        return summaries("accuracy", ratio(sums[:, 0], sums[:, 1]), hits, gives, trues)

    statistics = beside(np.stack([right, np.ones(len(rows))], axis=1), true & given, given, true)
    return Sums(statistics, metrics, len(rows), {"accuracy": right})


def target_of(row: LabelRow) -> str:
    return ", ".join(row.labels) or NONE


def outcomes(
    task: str, rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings
) -> Iterator[RowOutcome]:
    """What was answered to each row. An error of one label is of the kind `true -> given`; of several, missed or
    invented."""
    least = _thresholds(settings) if _is_multi(settings) else None
    index = {label: i for i, label in enumerate(settings.labels)}
    for place, (row, one) in enumerate(zip(rows, predicted, strict=True)):
        shares = one.probabilities.astype(np.float64)
        known = [index[label] for label in row.labels if label in index]
        if least is None:
            chosen = [int(shares.argmax())]
            confidence, likely = float(shares.max()), float(shares[known[0]]) if known else 0.0
            kinds = [f"{row.labels[0]}{ARROW}{settings.labels[chosen[0]]}"]
        else:
            chosen = np.flatnonzero(shares >= least).tolist()
            certain = np.where(shares >= least, shares, 1 - shares)
            confidence, likely = (
                float(certain.min()),
                float(np.prod(np.where(_flags(known, shares), shares, 1 - shares))),
            )
            kinds = [MISSED] * bool(set(known) - set(chosen)) + [INVENTED] * bool(set(chosen) - set(known))
        given = tuple(settings.labels[i] for i in chosen)
        is_right = set(given) == set(row.labels)
        yield RowOutcome(
            place,
            row_digest(row),
            row.file,
            row.line,
            (clip(row.input["text"]),),
            target_of(row),
            ", ".join(given) or NONE,
            float(is_right),
            () if is_right else tuple(kinds),
            confidence,
            -log(max(likely, LEAST_LIKELY)),
            row.labels,
            given,
        )


def _flags(places: Sequence[int], shares: Floats) -> NDArray[np.bool_]:
    found = np.zeros(len(shares), np.bool_)
    found[list(places)] = True
    return found


def _is_multi(settings: Settings) -> bool:
    return bool(settings.options.get("multi_label", False))


def _thresholds(settings: Settings) -> Probabilities:
    """From which score on each label is given, [labels]."""
    least = thresholds_of(settings, {})
    return np.array([least[label] for label in settings.labels], np.float32)


def apply_calibration(
    predicted: Sequence[LabelPrediction], calibration: Calibration, settings: Settings
) -> list[LabelPrediction]:
    """The predictions with the probabilities that are served."""
    shares = np.stack([one.probabilities for one in predicted]).astype(np.float64)
    heat = calibration.temperature
    if not _is_multi(settings):
        biases = np.array(calibration.biases_of(settings.labels))
        return [LabelPrediction(one.astype(np.float32)) for one in temper(shares, heat, biases)]
    both = temper(np.stack((1 - shares, shares), -1), heat)
    return [LabelPrediction(one.astype(np.float32)) for one in both[..., 1]]


def decisions(rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings) -> Decisions:
    """One decision a text, or one of each text and label: whether it has it."""
    shares = np.stack([one.probabilities for one in predicted]).astype(np.float64)
    if not _is_multi(settings):
        return Decisions(shares, _true_indices(rows, settings))
    return Decisions(
        np.stack((1 - shares, shares), -1).reshape(-1, 2),
        _true_flags(rows, settings).reshape(-1).astype(np.int64),
        np.repeat(np.arange(len(shares)), shares.shape[1]),
    )


def answers(
    rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings, given: Indices | None = None
) -> Answers:
    """How sure each answer is, and whether it is right; of several labels, all together.

    `given`: the place of the label of each answer; without it, the likeliest. The surety is that of this label.
    """
    shares = np.stack([one.probabilities for one in predicted]).astype(np.float64)
    if _is_multi(settings):
        logits, flags = np.abs(log_shares(shares) - log_shares(1 - shares)), _true_flags(rows, settings)
        right = ((shares >= _thresholds(settings)) == flags).all(-1)
        columns = {label: (shares[:, i], flags[:, i]) for i, label in enumerate(settings.labels)}
        return Answers(logits.min(-1), right, columns)
    true, places = _true_indices(rows, settings), np.arange(len(shares))
    given = shares.argmax(-1) if given is None else given
    peak = shares[places, given]
    others = shares.copy()
    others[places, given] = 0.0
    chosen = {label: given == i for i, label in enumerate(settings.labels)}
    by_label = {label: (peak[some], (given == true)[some]) for label, some in chosen.items()}
    return Answers(
        log_shares(peak) - log_shares(others.sum(-1)), given == true, by_label, Decisions(shares, true), given
    )


def _true_indices(rows: Sequence[LabelRow], settings: Settings) -> NDArray[np.int64]:
    """The place of each row's label; -1, which no answer is, where the model has not learned it."""
    index = {label: i for i, label in enumerate(settings.labels)}
    return np.array([index.get(row.labels[0], -1) for row in rows], np.int64)


def _true_flags(rows: Sequence[LabelRow], settings: Settings) -> NDArray[np.bool_]:
    return np.array([[label in row.labels for label in settings.labels] for row in rows], np.bool_)


def _accuracy(rows: Sequence[LabelRow], predicted: Sequence[LabelPrediction], settings: Settings) -> float:
    """The share of texts whose label is right, or all of whose labels are."""
    if _is_multi(settings):
        least = _thresholds(settings)
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

    true = _true_indices(rows, settings)
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
    least = _thresholds(settings)
    true = _true_flags(rows, settings)
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
