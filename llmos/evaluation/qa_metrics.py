"""Extractive QA metrics: exact match and token F1, normalized as SQuAD does (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from llmos.data.row import Answers, Row
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake
from llmos.evaluation.predictions import Predicted

ARTICLES = re.compile(r"\b(a|an|the)\b")
NONE = "(no answer)"


def judge(rows: Sequence[Row], predicted: Sequence[Predicted]) -> EvaluationResult:
    """All numbers of these answers; apart for questions that have one and that have none, where there are both."""
    golds = [_golds(row) for row in rows]
    given = [str(one.answer["text"]) for one in predicted]
    f1s = [best(f1, gold, text) for gold, text in zip(golds, given, strict=True)]
    exacts = [best(exact, gold, text) for gold, text in zip(golds, given, strict=True)]
    metrics = {"f1": _mean(f1s), "exact_match": _mean(exacts)}
    has = [gold != ("",) for gold in golds]
    if not all(has) and any(has):
        metrics["f1_with_answer"] = _mean([x for x, is_there in zip(f1s, has, strict=True) if is_there])
        metrics["exact_match_with_answer"] = _mean([x for x, is_there in zip(exacts, has, strict=True) if is_there])
        metrics["accuracy_without_answer"] = _mean([x for x, is_there in zip(exacts, has, strict=True) if not is_there])
    wrong = sorted((i for i, x in enumerate(f1s) if x < 1), key=lambda i: (f1s[i], -float(predicted[i].shares.max())))
    return EvaluationResult(
        metrics, {}, mistakes=tuple(_mistake(rows[i], golds[i], predicted[i]) for i in wrong[:MISTAKES])
    )


def primary_metric(rows: Sequence[Row], predicted: Sequence[Predicted]) -> float:
    """The one number that decides."""
    pairs = zip(rows, predicted, strict=True)
    return _mean([best(f1, _golds(row), str(one.answer["text"])) for row, one in pairs])


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


def _golds(row: Row) -> tuple[str, ...]:
    assert isinstance(row.label, Answers)
    return row.label.texts or ("",)


def _mistake(row: Row, golds: Sequence[str], one: Predicted) -> Mistake:
    expected = " | ".join(dict.fromkeys(golds)) or NONE
    said = one.answer["text"]
    score = float(one.shares[0] if said else one.shares[1])
    return Mistake(row.input["question"], expected, said or NONE, score, row.file, row.line)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
