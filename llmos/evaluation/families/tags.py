"""Evaluation of the tags family: entity-level F1 of IOB2 tags, as seqeval counts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from llmos.data.row import TagRow
from llmos.evaluation.counts import entities, per_class, summaries, summary, total
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake, Probabilities
from llmos.evaluation.statistics.samples import Floats, Sample, Sums, Values, columns_of, ratio
from llmos.tasks import Settings
from llmos.tasks.tag import spans_of
from llmos.training.examples import Example
from llmos.training.objectives.tags import TagTarget


@dataclass(frozen=True, slots=True)
class TagPrediction:
    """The probability of each tag for each word, [words, tags]; O where a word has no token."""

    probabilities: Probabilities


def predictions_of(
    task: str, head: object, examples: Sequence[Example[TagTarget]], logits: Tensor, settings: Settings
) -> Iterator[TagPrediction]:
    by_token = logits.softmax(-1).cpu().numpy()
    start = 0
    for one in examples:
        yield TagPrediction(_by_word(by_token[start : start + one.size], one.rendered.context.firsts))
        start += one.size


def _by_word(by_token: Probabilities, firsts: Sequence[int | None]) -> Probabilities:
    by_word = by_token[[first or 0 for first in firsts]]
    lost = [i for i, first in enumerate(firsts) if first is None]
    if lost:
        by_word[lost] = 0.0
        by_word[lost, 0] = 1.0
    return by_word


def metric(name: str, rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings) -> float | None:
    return _f1(rows, predicted, settings) if name == "f1" else None


def _f1(rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings) -> float:
    given = [_tags_given(one, settings) for one in predicted]
    return total(entities([row.tags for row in rows], given)).rates()["f1"]


def _tags_given(one: TagPrediction, settings: Settings) -> list[str]:
    return [settings.labels[i] for i in one.probabilities.argmax(-1)]


def judge(
    task: str, rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings
) -> EvaluationResult:
    tags = [_tags_given(one, settings) for one in predicted]
    true = [list(row.tags) for row in rows]
    words = [a == b for x, y in zip(true, tags, strict=True) for a, b in zip(x, y, strict=True)]
    kinds = tuple(sorted({label.partition("-")[2] for label in settings.labels} - {""}))
    tally = entities(true, tags)
    metrics = summary("f1", _f1(rows, predicted, settings), tally)
    metrics["accuracy"] = sum(words) / max(1, len(words))
    return EvaluationResult(
        metrics,
        per_class(tally),
        ("O", *kinds),
        _confused_words(true, tags, kinds),
        _tag_mistakes(rows, predicted, tags),
    )


def sample_of(task: str, rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings) -> Sample:
    """A sentence is a unit; of each kind of entity how many were given rightly, given, and true."""
    tags = [_tags_given(one, settings) for one in predicted]
    tallies = [entities([row.tags], [given]) for row, given in zip(rows, tags, strict=True)]
    index = {kind: i for i, kind in enumerate(sorted({kind for tally in tallies for kind in tally}))}
    kinds = len(index)
    cells = np.zeros((len(rows), 2 + 3 * kinds))
    for i, (row, given, tally) in enumerate(zip(rows, tags, tallies, strict=True)):
        cells[i, 0] = sum(a == b for a, b in zip(row.tags, given, strict=True))
        cells[i, 1] = len(given)
        for kind, count in tally.items():
            cells[i, [2 + k * kinds + index[kind] for k in range(3)]] = count.hits, count.given, count.true
    there = np.ones(kinds)

    def metrics(sums: Floats) -> Values:
        hits, gives, trues = (sums[:, 2 + kinds * k : 2 + kinds * (k + 1)] for k in range(3))
        return summaries("f1", None, hits, gives, trues, there) | {"accuracy": ratio(sums[:, 0], sums[:, 1])}

    return Sums(columns_of(cells.T), metrics, len(rows))


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
    rows: Sequence[TagRow], predicted: Sequence[TagPrediction], tags: Sequence[Sequence[str]]
) -> tuple[Mistake, ...]:
    worst: list[tuple[float, Mistake]] = []
    for row, one, given in zip(rows, predicted, tags, strict=True):
        wrong = [float(one.probabilities[i].max()) for i, tag in enumerate(given) if tag != row.tags[i]]
        if wrong:
            words = row.input["tokens"]
            mistake = Mistake(
                " ".join(words),
                _mark_mistakes(words, row.tags),
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
