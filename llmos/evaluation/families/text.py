"""Evaluation of the text family: likelihood of true answers; exact match, ROUGE, chrF and BLEU of generated ones."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from llmos.abi.json_type import Json
from llmos.abi.row_outcome import RowOutcome, clip
from llmos.abi.task import spec_of
from llmos.data.row import TextRow, UnpairedRow
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake
from llmos.evaluation.families import preferences
from llmos.evaluation.families.text_prediction import TextPrediction
from llmos.evaluation.families.translation import OVERLAP_COUNTS, overlap_counts, overlap_scores
from llmos.evaluation.outcomes import EMPTY, PARTIAL, WRONG, row_digest
from llmos.evaluation.statistics.samples import Floats, Joined, Sample, Sums, Values, columns_of, ratio
from llmos.nn.next_token import NextHead
from llmos.tasks import Settings
from llmos.training.examples import Example
from llmos.training.losses import supervised_tokens
from llmos.training.objectives.preferences import PreferenceTarget
from llmos.training.objectives.text import TextTarget

WORD = re.compile(r"\w+")
COMMON_TOKENS = 4000  # of a text that is compared word by word in order: the work is the product of both lengths


Pair = tuple[str, str]  # a true answer and a generated one


def predictions_of(
    task: str, head: object, examples: Sequence[Example[TextTarget]], logits: Tensor, settings: Settings
) -> Iterator[TextPrediction]:
    assert isinstance(head, NextHead), f"{task} is predicted by a language modelling head"
    if holds_preferences(examples):
        yield from preferences.predictions_of(head, examples, logits)
        return
    costs = head.losses(*supervised_tokens(logits, examples)).cpu()
    for some in torch.split(costs, [len(one.target.tokens) for one in examples]):
        yield TextPrediction(some.double().sum().float().item(), len(some))


def holds_preferences(examples: Sequence[Example[Any]]) -> TypeGuard[Sequence[Example[PreferenceTarget]]]:
    """Whether these are examples of preference rows."""
    return bool(examples) and isinstance(examples[0].target, PreferenceTarget)


def from_outputs(rows: Sequence[TextRow], outputs: Sequence[Json], settings: Settings) -> list[TextPrediction]:
    """The served answers, None of rows that were not asked; the likelihood of the true ones is not served."""

    def text(output: Json) -> str | None:
        if output is None:
            return None
        return str((output["text"] if "text" in output else output["message"]["content"]) or "")

    return [TextPrediction(0.0, 0, text(output)) for output in outputs]


def is_answered(predicted: Sequence[TextPrediction]) -> bool:
    """Whether any answer was generated; before that only the true answers' likelihood is known."""
    return any(one.answer is not None for one in predicted)


def metric(name: str, rows: Sequence[TextRow], predicted: Sequence[TextPrediction], settings: Settings) -> float | None:
    if name in preferences.METRICS and preferences.are_preferences(predicted):
        return preferences.metrics(rows, predicted)[name]
    return likelihood(predicted) if name == "likelihood" else None


def judge(
    task: str, rows: Sequence[TextRow], predicted: Sequence[TextPrediction], settings: Settings
) -> EvaluationResult:
    """All metrics; those of generated answers are of the rows that were answered."""
    metrics = {}
    if preferences.are_preferences(predicted):
        metrics = preferences.metrics(rows, predicted)
    if has_likelihood(predicted):
        likely = likelihood(predicted)
        metrics |= {"likelihood": likely, "perplexity": 1 / max(likely, 1e-300)}
    pairs = [
        (row.answer, one.answer, row)
        for row, one in zip(rows, predicted, strict=True)
        if one.answer is not None and is_true(row)
    ]
    if not pairs:
        return EvaluationResult(metrics, {})
    scores = [f1(true, given) for true, given, _ in pairs]
    exacts = [_is_exact(true, given) for true, given, _ in pairs]
    metrics |= {"exact_match": _mean(list(map(float, exacts))), "f1": _mean(scores)}
    metrics |= _overlaps(spec_of(task).primary_metric, [(true, given) for true, given, _ in pairs])
    metrics["answered_rows"] = float(len(pairs))
    wrong = sorted((i for i, exact in enumerate(exacts) if not exact), key=lambda i: (scores[i], i))
    mistakes = (
        Mistake(row.prompt, true, given, scores[i], row.file, row.line)
        for i in wrong[:MISTAKES]
        for true, given, row in (pairs[i],)
    )
    return EvaluationResult(metrics, {}, mistakes=tuple(mistakes))


def sample_of(task: str, rows: Sequence[TextRow], predicted: Sequence[TextPrediction], settings: Settings) -> Sample:
    """A row is a unit; what its true answer costs, and what the generated one has in common with it, if it has one."""
    sample = _text_sample(task, rows, predicted)
    if not preferences.are_preferences(predicted):
        return sample
    return Joined((sample, preferences.sample_of(rows, predicted)))


def is_true(row: TextRow) -> bool:
    """Whether the row's answer is one to be given: a bad one is none."""
    return not isinstance(row, UnpairedRow) or row.is_good


def _text_sample(task: str, rows: Sequence[TextRow], predicted: Sequence[TextPrediction]) -> Sample:
    cost = [[one.cost for one in predicted], [float(one.tokens) for one in predicted]]
    if not is_answered(predicted):
        return Sums(columns_of(cost), _likelihoods, len(rows))
    is_there = [float(one.answer is not None and is_true(row)) for row, one in zip(rows, predicted, strict=True)]
    pairs = [(row.answer, one.answer or "") for row, one in zip(rows, predicted, strict=True)]
    answered = [pair if there else None for pair, there in zip(pairs, is_there, strict=True)]
    exacts = [float(pair is not None and _is_exact(*pair)) for pair in answered]
    f1s = [f1(*pair) if pair else 0.0 for pair in answered]
    names, statistics, overlaps = _overlap_statistics(spec_of(task).primary_metric, answered)

    def metrics(sums: Floats) -> Values:
        count = sums[:, 2]
        found = {"exact_match": ratio(sums[:, 3], count), "f1": ratio(sums[:, 4], count)}
        return _likelihoods(sums) | found | overlaps(sums[:, 5 : 5 + names], count)

    shares = {"exact_match": np.array(exacts)} if all(is_there) else {}
    return Sums(columns_of([*cost, is_there, exacts, f1s, *statistics.T]), metrics, len(rows), shares)


def target_of(row: TextRow) -> str:
    return row.answer


def outcomes(
    task: str, rows: Sequence[TextRow], predicted: Sequence[TextPrediction], settings: Settings
) -> Iterator[RowOutcome]:
    """What was written to each row, and how much of the true answer it has; of the others the loss alone."""
    if preferences.are_preferences(predicted):
        yield from preferences.outcomes(rows, predicted)
        return
    for place, (row, one) in enumerate(zip(rows, predicted, strict=True)):
        is_off = one.answer is not None and not _is_exact(row.answer, one.answer)
        score = None if one.answer is None else f1(row.answer, one.answer) if is_off else 1.0
        kind = EMPTY if not (one.answer or "").strip() else PARTIAL if score else WRONG
        yield RowOutcome(
            place,
            row_digest(row),
            row.file,
            row.line,
            tuple(map(clip, row.texts)),
            clip(row.answer),
            clip(one.answer or ""),
            score,
            (kind,) if is_off else (),
            loss=one.cost / one.tokens if one.tokens else None,
        )


def headline(wanted: str, primary_metric: str, predicted: Sequence[TextPrediction]) -> str:
    """The metric that decides of these predictions: the wanted one of preferences where it is known, else the primary
    one; f1 where that is a likelihood that is not known."""
    if preferences.can_compute(wanted, predicted):
        return wanted
    is_unknown = primary_metric == "likelihood" and is_answered(predicted) and not has_likelihood(predicted)
    return "f1" if is_unknown else primary_metric


def has_likelihood(predicted: Sequence[TextPrediction]) -> bool:
    """Whether it is known how likely the true answers are: an engine that only answers does not say it."""
    return any(one.tokens for one in predicted)


def _likelihoods(sums: Floats) -> Values:
    likely = np.exp(-ratio(sums[:, 0], sums[:, 1]))
    return {"likelihood": likely, "perplexity": 1 / np.maximum(likely, 1e-300)}


def _overlap_statistics(
    primary_metric: str, pairs: Sequence[Pair | None]
) -> tuple[int, Floats, Callable[[Floats, Floats], Values]]:
    """How many statistics there are of each pair, these, and what their sums make: as `_overlaps` does of all pairs."""
    if primary_metric == "chrf":
        counted = [overlap_counts(*pair) if pair else (0.0,) * OVERLAP_COUNTS for pair in pairs]
        return OVERLAP_COUNTS, np.array(counted), lambda sums, count: overlap_scores(sums)
    measures: dict[str, Callable[[str, str], float]] = {"rouge_l": rouge_l}
    if primary_metric == "rouge_l":
        measures = {"rouge_1": partial(rouge, size=1), "rouge_2": partial(rouge, size=2), **measures}
    scores = np.array([[measure(*pair) if pair else 0.0 for measure in measures.values()] for pair in pairs])
    return (
        len(measures),
        scores,
        lambda sums, count: {name: ratio(sums[:, i], count) for i, name in enumerate(measures)},
    )


def likelihood(predicted: Sequence[TextPrediction]) -> float:
    """The geometric mean of the true tokens' probabilities: one over the perplexity."""
    return math.exp(-sum(one.cost for one in predicted) / max(sum(one.tokens for one in predicted), 1))


def _overlaps(primary_metric: str, pairs: Sequence[Pair]) -> dict[str, float]:
    """What generated answers have in common with the true ones, by the metrics that are usual for such a task."""
    if primary_metric == "chrf":
        return _translation_metrics([true for true, _ in pairs], [given for _, given in pairs])
    sizes = (1, 2) if primary_metric == "rouge_l" else ()
    found = {f"rouge_{size}": _mean([rouge(*pair, size) for pair in pairs]) for size in sizes}
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
    return true.split() == given.split()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
