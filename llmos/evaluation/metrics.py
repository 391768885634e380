"""Metrics of labelled predictions: accuracy, precision, recall, and entity-level F1 for tags."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmos.data.row import Row
from llmos.evaluation import qa_metrics, ranking_metrics, text_metrics
from llmos.evaluation.counts import ClassCounts, Counts, averages, entities, total
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake
from llmos.evaluation.predictions import Predicted
from llmos.tasks import GENERATIVE, Settings
from llmos.tasks.tag import spans_of


def judge(task: str, rows: Sequence[Row], predicted: Sequence[Predicted], settings: Settings) -> EvaluationResult:
    """All numbers of these predictions against the rows' labels."""
    if task in GENERATIVE:
        return text_metrics.judge(task, rows, predicted)
    if task in ranking_metrics.TASKS:
        return ranking_metrics.judge(task, rows, predicted, settings)
    if task == "answer":
        return qa_metrics.judge(rows, predicted)
    if task == "tag":
        return _tags(rows, predicted, settings)
    if settings.options.get("multi_label", False):
        return _many(rows, predicted, settings)
    return _one(rows, predicted, settings)


def primary_metric(task: str, rows: Sequence[Row], predicted: Sequence[Predicted], settings: Settings) -> float:
    """The one number that decides, without the rest."""
    if task in GENERATIVE:
        return text_metrics.primary_metric(task, rows, predicted)
    if task in ranking_metrics.TASKS:
        return ranking_metrics.primary_metric(task, rows, predicted)
    if task == "answer":
        return qa_metrics.primary_metric(rows, predicted)
    if task == "tag":
        given = [_tags_given(one, settings) for one in predicted]
        return total(entities([row.labels for row in rows], given)).rates()["f1"]
    if settings.options.get("multi_label", False):
        least = float(settings.options.get("threshold", 0.5))
        right = sum(
            set(row.labels) == {settings.labels[i] for i in np.flatnonzero(one.shares >= least)}
            for row, one in zip(rows, predicted, strict=True)
        )
    else:
        right = sum(
            row.label == settings.labels[int(p.shares.argmax())] for row, p in zip(rows, predicted, strict=True)
        )
    return right / max(1, len(rows))


def _tags_given(one: Predicted, settings: Settings) -> list[str]:
    return [settings.labels[i] for i in one.shares.argmax(-1)]


def _one(rows: Sequence[Row], predicted: Sequence[Predicted], settings: Settings) -> EvaluationResult:
    from sklearn.metrics import confusion_matrix

    index = {label: i for i, label in enumerate(settings.labels)}
    true = np.array([index[str(row.label)] for row in rows])
    shares = np.stack([one.shares for one in predicted])
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
    metrics = _summary("accuracy", primary_metric("classify", rows, predicted, settings), tally)
    return EvaluationResult(metrics, _per_class(tally), settings.labels, confusion, mistakes)


def _many(rows: Sequence[Row], predicted: Sequence[Predicted], settings: Settings) -> EvaluationResult:
    least = float(settings.options.get("threshold", 0.5))
    true = np.array([[label in row.labels for label in settings.labels] for row in rows])
    shares = np.stack([one.shares for one in predicted])
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
    metrics = _summary("accuracy", primary_metric("classify", rows, predicted, settings), tally)
    return EvaluationResult(metrics, _per_class(tally), mistakes=mistakes)


def _tags(rows: Sequence[Row], predicted: Sequence[Predicted], settings: Settings) -> EvaluationResult:
    tags = [_tags_given(one, settings) for one in predicted]
    true = [list(row.labels) for row in rows]
    words = [a == b for x, y in zip(true, tags, strict=True) for a, b in zip(x, y, strict=True)]
    kinds = tuple(sorted({label.partition("-")[2] for label in settings.labels} - {""}))
    tally = entities(true, tags)
    metrics = _summary("f1", primary_metric("tag", rows, predicted, settings), tally)
    metrics["accuracy"] = sum(words) / max(1, len(words))
    return EvaluationResult(
        metrics,
        _per_class(tally),
        ("O", *kinds),
        _confused_words(true, tags, kinds),
        _tag_mistakes(rows, predicted, tags),
    )


def _confused_words(
    true: Sequence[Sequence[str]], given: Sequence[Sequence[str]], kinds: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """By word and kind of entity, whatever its place in the entity."""
    index = {kind: i for i, kind in enumerate(("", *kinds))}
    counts = np.zeros((len(index), len(index)), dtype=int)
    for x, y in zip(true, given, strict=True):
        for a, b in zip(x, y, strict=True):
            counts[index[a.partition("-")[2]], index[b.partition("-")[2]]] += 1
    return tuple(tuple(int(n) for n in line) for line in counts)


def _tag_mistakes(
    rows: Sequence[Row], predicted: Sequence[Predicted], tags: Sequence[Sequence[str]]
) -> tuple[Mistake, ...]:
    worst: list[tuple[float, Mistake]] = []
    for row, one, given in zip(rows, predicted, tags, strict=True):
        wrong = [float(one.shares[i].max()) for i, tag in enumerate(given) if tag != row.labels[i]]
        if wrong:
            words = row.input["tokens"]
            mistake = Mistake(
                " ".join(words),
                _mark_mistakes(words, row.labels),
                _mark_mistakes(words, given),
                max(wrong),
                row.file,
                row.line,
            )
            worst.append((len(wrong) + max(wrong), mistake))
    worst.sort(key=lambda pair: -pair[0])
    return tuple(mistake for _, mistake in worst[:MISTAKES])


def _mark_mistakes(words: Sequence[str], tags: Sequence[str]) -> str:
    spans = [f"{label}: {' '.join(words[first:after])}" for label, first, after in spans_of(tags)]
    return "; ".join(spans) or "none"


def _summary(first: str, value: float, tally: Counts) -> dict[str, float]:
    """The headline and the averages; plain f1, precision and recall are macro for classes and micro for entities."""
    by = averages(tally)
    plain = by["micro" if first == "f1" else "macro"]
    metrics = {first: value, "f1": plain["f1"], "precision": plain["precision"], "recall": plain["recall"]}
    return metrics | {f"{name}_{key}": rate for name, rates in by.items() for key, rate in rates.items()}


def _per_class(tally: Counts) -> dict[str, dict[str, float]]:
    return {name: {**count.rates(), "support": float(count.true)} for name, count in tally.items()}
