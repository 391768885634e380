"""Metrics of generated text: perplexity of the references; exact match, chrF and BLEU of the generated text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from llmos.data.row import Row, WrittenText
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake
from llmos.evaluation.predictions import Predicted
from llmos.tasks import task as task_of

WORD = re.compile(r"\w+")
COMMON_TOKENS = 4000  # of a text that is compared word by word in order: the work is the product of both lengths


def judge(task: str, rows: Sequence[Row], predicted: Sequence[Predicted]) -> EvaluationResult:
    """All numbers of these texts, the task's own first; those of written answers are of the rows that were answered."""
    found = _numbers(task, rows, predicted)
    first = task_of(task).spec.primary_metric
    answers = [i for i, one in enumerate(predicted) if one.answer is not None]
    scored = sorted((f1(_true(rows[i]), predicted[i].answer), i) for i in answers)
    wrong = [(score, i) for score, i in scored if not _is_exact(_true(rows[i]), predicted[i].answer)]
    mistakes = tuple(_mistake(rows[i], str(predicted[i].answer), score) for score, i in wrong[:MISTAKES])
    return EvaluationResult({first: found[first], **found}, {}, mistakes=mistakes)


def primary_metric(task: str, rows: Sequence[Row], predicted: Sequence[Predicted]) -> float:
    """The one number that decides; before anything is written, that is how likely the true texts are."""
    if all(one.answer is None for one in predicted):
        return likelihood(predicted)
    return _numbers(task, rows, predicted)[task_of(task).spec.primary_metric]


def likelihood(predicted: Sequence[Predicted]) -> float:
    """The geometric mean of the true tokens' probabilities: one over the perplexity."""
    cost, count = (sum(float(one.shares[k]) for one in predicted) for k in (0, 1))
    return math.exp(-cost / max(count, 1))


def _numbers(task: str, rows: Sequence[Row], predicted: Sequence[Predicted]) -> dict[str, float]:
    likely = likelihood(predicted)
    found = {"likelihood": likely, "perplexity": 1 / max(likely, 1e-300)}
    pairs = [(_true(row), str(one.answer)) for row, one in zip(rows, predicted, strict=True) if one.answer is not None]
    if not pairs:
        return found
    found["exact_match"] = _mean([float(_is_exact(*pair)) for pair in pairs])
    found["f1"] = _mean([f1(*pair) for pair in pairs])
    return {**found, **_by_task(task, pairs), "answered_rows": float(len(pairs))}


def _by_task(task: str, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    if task == "translate":
        return _translation_metrics([true for true, _ in pairs], [given for _, given in pairs])
    found = {f"rouge_{size}": _mean([rouge(*pair, size) for pair in pairs]) for size in (1, 2) if task == "summarize"}
    return {**found, "rouge_l": _mean([rouge_l(*pair) for pair in pairs])}


def _translation_metrics(true: Sequence[str], given: Sequence[str]) -> dict[str, float]:
    """chrF (Popovic 2015) and BLEU (Post 2018) over all rows together, as sacrebleu has them, here from 0 to 1."""
    from sacrebleu.metrics import BLEU, CHRF  # only what translates needs it

    return {
        "chrf": CHRF().corpus_score(given, [true]).score / 100,
        "bleu": BLEU(effective_order=True).corpus_score(given, [true]).score / 100,
    }


def words(text: str) -> list[str]:
    """Letters and digits of any script, in small letters."""
    return WORD.findall(text.lower())


def f1(true: str, given: str) -> float:
    """Of the words that both have, as often as both have them; where one has none, whether the other has none too."""
    return _f1(*_overlap(Counter(words(true)), Counter(words(given))), is_equal=true.split() == given.split())


def rouge(true: str, given: str, size: int) -> float:
    """ROUGE-N (Lin 2004): F1 of the runs of so many words that both have."""
    return _f1(*_overlap(_runs(words(true), size), _runs(words(given), size)))


def rouge_l(true: str, given: str) -> float:
    """ROUGE-L (Lin 2004): F1 of the longest run of words that both have in the same order, with gaps."""
    a, b = words(true)[:COMMON_TOKENS], words(given)[:COMMON_TOKENS]
    return _f1(_common(a, b), len(a), len(b))


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def _runs(some: Sequence[str], size: int) -> Counter[str]:
    return Counter(" ".join(some[i : i + size]) for i in range(len(some) - size + 1))


def _overlap(true: Counter[str], given: Counter[str]) -> tuple[int, int, int]:
    return (true & given).total(), true.total(), given.total()


def _f1(both: int, true: int, given: int, *, is_equal: bool = False) -> float:
    return 2 * both / (true + given) if true and given else float(is_equal)


def _is_exact(true: str, given: str) -> bool:
    return true.split() == str(given).split()


def _true(row: Row) -> str:
    assert isinstance(row.label, WrittenText)
    return row.label.text


def _prompt_text(row: Row) -> str:
    messages = row.input.get("messages")
    return str(messages[-1]["content"] if messages else next(iter(row.input.values())))


def _mistake(row: Row, given: str, score: float) -> Mistake:
    return Mistake(_prompt_text(row), _true(row), given, score, row.file, row.line)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
