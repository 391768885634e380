"""Evaluation of the spans family: exact match and token F1, normalized as SQuAD does (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmos.abi.row_outcome import RowOutcome, clip
from llmos.data.row import SpanRow
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake
from llmos.evaluation.outcomes import INVENTED, NO_ANSWER, PARTIAL, WRONG, row_digest
from llmos.evaluation.statistics.samples import Floats, Sample, Sums, Values, columns_of, ratio
from llmos.tasks import Settings
from llmos.tasks import task as task_of
from llmos.training.examples import Example
from llmos.training.objectives.spans import SpanTarget

ARTICLES = re.compile(r"\b(a|an|the)\b")
NONE = "(no answer)"


@dataclass(frozen=True, slots=True)
class SpanPrediction:
    """The answer as served, empty where the passage does not say; its probability, and that of there being none."""

    text: str
    score: float
    no_answer: float


def predictions_of(
    task: str, head: object, examples: Sequence[Example[SpanTarget]], logits: Tensor, settings: Settings
) -> Iterator[SpanPrediction]:
    windows = iter(torch.split(logits.cpu(), [len(ids) for one in examples for ids in one.sequences]))
    parse = task_of(task).parse
    for one in examples:
        found = parse([next(windows).tolist() for _ in one.sequences], one.rendered, settings, {})
        yield SpanPrediction(str(found["text"]), _round(found["score"]), _round(found["no_answer"]))


def _round(probability: float) -> float:
    return float(np.float32(probability))  # as probabilities of the other families have it


def metric(name: str, rows: Sequence[SpanRow], predicted: Sequence[SpanPrediction], settings: Settings) -> float | None:
    if name != "f1":
        return None
    return _mean([best(f1, _golds(row), one.text) for row, one in zip(rows, predicted, strict=True)])


def judge(
    task: str, rows: Sequence[SpanRow], predicted: Sequence[SpanPrediction], settings: Settings
) -> EvaluationResult:
    """All metrics; apart for questions that have an answer and that have none, where there are both."""
    golds = [_golds(row) for row in rows]
    f1s = [best(f1, gold, one.text) for gold, one in zip(golds, predicted, strict=True)]
    exacts = [best(exact, gold, one.text) for gold, one in zip(golds, predicted, strict=True)]
    metrics = {"f1": _mean(f1s), "exact_match": _mean(exacts)}
    has = [gold != ("",) for gold in golds]
    if not all(has) and any(has):
        metrics["f1_with_answer"] = _mean([x for x, is_there in zip(f1s, has, strict=True) if is_there])
        metrics["exact_match_with_answer"] = _mean([x for x, is_there in zip(exacts, has, strict=True) if is_there])
        metrics["accuracy_without_answer"] = _mean([x for x, is_there in zip(exacts, has, strict=True) if not is_there])
    sure = [max(one.score, one.no_answer) for one in predicted]
    wrong = sorted((i for i, x in enumerate(f1s) if x < 1), key=lambda i: (f1s[i], -sure[i]))
    return EvaluationResult(
        metrics, {}, mistakes=tuple(_mistake(rows[i], golds[i], predicted[i]) for i in wrong[:MISTAKES])
    )


def sample_of(task: str, rows: Sequence[SpanRow], predicted: Sequence[SpanPrediction], settings: Settings) -> Sample:
    """A passage with all its questions is a unit."""
    golds = [_golds(row) for row in rows]
    f1s = np.array([best(f1, gold, one.text) for gold, one in zip(golds, predicted, strict=True)])
    exacts = np.array([best(exact, gold, one.text) for gold, one in zip(golds, predicted, strict=True)])
    has = np.array([float(gold != ("",)) for gold in golds])
    is_mixed = 0 < has.sum() < len(rows)

    def metrics(sums: Floats) -> Values:
        total, with_answer = sums[:, 2], sums[:, 5]
        found = {"f1": ratio(sums[:, 0], total), "exact_match": ratio(sums[:, 1], total)}
        if is_mixed:
            found["f1_with_answer"] = ratio(sums[:, 3], with_answer)
            found["exact_match_with_answer"] = ratio(sums[:, 4], with_answer)
            found["accuracy_without_answer"] = ratio(sums[:, 1] - sums[:, 4], total - with_answer)
        return found

    columns = [f1s, exacts, np.ones(len(rows)), f1s * has, exacts * has, has]
    passages = [row.input["passage"] for row in rows]
    shares = {"exact_match": exacts} if len(set(passages)) == len(rows) else {}
    return Sums(columns_of(columns, passages), metrics, len(rows), shares)


def target_of(row: SpanRow) -> str:
    return " | ".join(dict.fromkeys(_golds(row))) or NONE


def outcomes(
    task: str, rows: Sequence[SpanRow], predicted: Sequence[SpanPrediction], settings: Settings
) -> Iterator[RowOutcome]:
    """What was answered to each question, and how much of a right answer it is."""
    for place, (row, one) in enumerate(zip(rows, predicted, strict=True)):
        golds = _golds(row)
        score = best(f1, golds, one.text)
        kind = PARTIAL if score > 0 else WRONG
        if score == 0 and golds == ("",):
            kind = INVENTED
        elif score == 0 and not one.text:
            kind = NO_ANSWER
        yield RowOutcome(
            place,
            row_digest(row),
            row.file,
            row.line,
            (clip(row.input["question"]), clip(row.input["passage"])),
            target_of(row),
            one.text or NONE,
            score,
            () if score == 1 else (kind,),
            one.score if one.text else one.no_answer,
        )


def normalize_answer(text: str) -> str:
    """Small letters, without punctuation and English articles, single spaces."""
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", bare).split())


def exact(gold: str, given: str) -> float:
    return float(normalize_answer(gold) == normalize_answer(given))


def f1(gold: str, given: str) -> float:
    """Of the words that both have; where one of them has none, whether the other has none too."""
    wanted, said = normalize_answer(gold).split(), normalize_answer(given).split()
    if not wanted or not said:
        return float(wanted == said)
    shared = sum((Counter(wanted) & Counter(said)).values())
    return 2 * shared / (len(wanted) + len(said))


def best(measure: Callable[[str, str], float], golds: Sequence[str], given: str) -> float:
    """Against whichever right answer it is nearest to."""
    return max(measure(gold, given) for gold in golds)


def _golds(row: SpanRow) -> tuple[str, ...]:
    return row.answers or ("",)


def _mistake(row: SpanRow, golds: Sequence[str], one: SpanPrediction) -> Mistake:
    expected = " | ".join(dict.fromkeys(golds)) or NONE
    score = one.score if one.text else one.no_answer
    return Mistake(row.input["question"], expected, one.text or NONE, score, row.file, row.line)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
