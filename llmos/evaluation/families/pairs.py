"""Evaluation of the pairs family: nDCG and MRR of documents by query, correlation of scores with people's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from llmos.abi.row_outcome import RowOutcome, clip
from llmos.abi.task import spec_of
from llmos.data.families.pairs import shape_of
from llmos.data.row import PairRow
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake
from llmos.evaluation.outcomes import TOO_HIGH, TOO_LOW, row_digest
from llmos.evaluation.statistics.samples import Correlations, Sample, Sums, Values, columns_of, ratio
from llmos.tasks import Settings
from llmos.training.examples import Example
from llmos.training.objectives.pairs import PairTarget

CUT = 10  # ranks that NDCG looks at
FAR = 0.25  # of the scale: a score of two texts that lies farther from its own is an error
RIGHT = 0.5  # from which score or scaled grade on a document counts as relevant

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairPrediction:
    """The score of two texts: a probability that the document answers the query, or the cosine of their vectors."""

    score: float


def predictions_of(
    task: str, head: object, examples: Sequence[Example[PairTarget]], logits: Tensor, settings: Settings
) -> Iterator[PairPrediction]:
    is_cosine = spec_of(task).head == "pooled"
    scores = (logits[0::2] * logits[1::2]).sum(-1) if is_cosine else logits[:, 0].sigmoid()
    return map(PairPrediction, scores.cpu().tolist())


def metric(name: str, rows: Sequence[PairRow], predicted: Sequence[PairPrediction], settings: Settings) -> float | None:
    true, given = _numbers(rows), _scores(predicted)
    if name == "spearman":
        return correlation(ranks(true), ranks(given))
    if name == "ndcg_at_10":
        return _mean([ndcg(true[some], given[some]) for some in _answerable_queries(rows, true)])
    return None


def judge(
    task: str, rows: Sequence[PairRow], predicted: Sequence[PairPrediction], settings: Settings
) -> EvaluationResult:
    return (_judge_ranking if shape_of(task).is_graded else _judge_scores)(rows, predicted, settings)


def _judge_scores(rows: Sequence[PairRow], predicted: Sequence[PairPrediction], settings: Settings) -> EvaluationResult:
    true, given = _numbers(rows), _scores(predicted)
    metrics = {"spearman": correlation(ranks(true), ranks(given)), "pearson": correlation(true, given)}
    return EvaluationResult(metrics, {}, mistakes=_far(rows, true / _scale(settings), given))


def _judge_ranking(
    rows: Sequence[PairRow], predicted: Sequence[PairPrediction], settings: Settings
) -> EvaluationResult:
    true, given, scale = _numbers(rows), _scores(predicted), _scale(settings)
    found = [
        (ndcg(true[some], given[some]), reciprocal_rank(true[some], given[some]))
        for some in _answerable_queries(rows, true)
    ]
    metrics = {
        "ndcg_at_10": _mean([one for one, _ in found]),
        "mrr": _mean([one for _, one in found]),
        "accuracy": float(((true / scale >= RIGHT) == (given >= RIGHT)).mean()),
        "queries": float(len(found)),
    }
    return EvaluationResult(metrics, {}, mistakes=_misranked_queries(rows, true, given))


def sample_of(task: str, rows: Sequence[PairRow], predicted: Sequence[PairPrediction], settings: Settings) -> Sample:
    """A query with all its documents is a unit; of two texts, the pair."""
    true, given = _numbers(rows), _scores(predicted)
    if not shape_of(task).is_graded:
        return Correlations(true, given)
    cells = np.zeros((len(rows), 5))  # of each row what is right, and of each query's first row what its ranking gains
    cells[:, 3] = (true / _scale(settings) >= RIGHT) == (given >= RIGHT)
    cells[:, 4] = 1
    for some in _answerable_queries(rows, true):
        cells[some[0], :3] = ndcg(true[some], given[some]), reciprocal_rank(true[some], given[some]), 1

    def metrics(sums: Floats) -> Values:
        return {
            "ndcg_at_10": ratio(sums[:, 0], sums[:, 2]),
            "mrr": ratio(sums[:, 1], sums[:, 2]),
            "accuracy": ratio(sums[:, 3], sums[:, 4]),
        }

    return Sums(columns_of(cells.T, [row.input["query"] for row in rows]), metrics, len(rows))


def target_of(row: PairRow) -> str:
    return f"{row.score:g}"


def outcomes(
    task: str, rows: Sequence[PairRow], predicted: Sequence[PairPrediction], settings: Settings
) -> Iterator[RowOutcome]:
    """How far each score lies from its own. Of a document, the other side of relevant is an error; of two texts, more
    than a quarter of the scale."""
    is_graded = shape_of(task).is_graded
    true, given = _numbers(rows) / _scale(settings), _scores(predicted)
    for place, row in enumerate(rows):
        off = float(given[place] - true[place])
        is_wrong = (true[place] >= RIGHT) != (given[place] >= RIGHT) if is_graded else abs(off) > FAR
        yield RowOutcome(
            place,
            row_digest(row),
            row.file,
            row.line,
            tuple(map(clip, row.texts)),
            f"{true[place]:.3f}",
            f"{given[place]:.3f}",
            float(not is_wrong) if is_graded else max(0.0, 1 - abs(off)),
            (TOO_HIGH if off > 0 else TOO_LOW,) if is_wrong else (),
            loss=abs(off),
        )


def ndcg(grades: Floats, scores: Floats, cut: int = CUT) -> float:
    """Normalized discounted cumulative gain (Järvelin and Kekäläinen 2002); gains are the grades, as in trec_eval.

    Of equal scores the worse document counts as the first: saying the same of all is worth nothing.
    """
    ideal = _gain(np.sort(grades)[::-1][:cut])
    return _gain(_rank_documents(grades, scores)[:cut]) / ideal if ideal else 0.0


def reciprocal_rank(grades: Floats, scores: Floats) -> float:
    """One over the rank of the first document with a grade over 0."""
    hits = np.flatnonzero(_rank_documents(grades, scores) > 0)
    return 1.0 / (int(hits[0]) + 1) if len(hits) else 0.0


def correlation(one: Floats, other: Floats) -> float:
    """Pearson's; 0 where one of them is the same throughout, for then nothing goes with anything."""
    a, b = one - one.mean(), other - other.mean()
    size = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / size if size > 1e-12 else 0.0


def _rank_documents(grades: Floats, scores: Floats) -> Floats:
    ranked: Floats = grades[np.lexsort((grades, -scores))]
    return ranked


def _gain(grades: Floats) -> float:
    return float((grades / np.log2(np.arange(2, len(grades) + 2))).sum())


def ranks(values: Floats) -> Floats:
    """Ranks from 0, equal values sharing their mean: Pearson's correlation of them is Spearman's."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    ranks: Floats = (ends - (counts + 1) / 2)[places]
    return ranks


def _answerable_queries(rows: Sequence[PairRow], true: Floats) -> list[list[int]]:
    """The rows of each query that has a relevant document; the others can be ranked neither well nor badly."""
    by_query: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        by_query.setdefault(row.input["query"], []).append(i)
    return [some for some in by_query.values() if true[some].max() > 0]


def _numbers(rows: Sequence[PairRow]) -> Floats:
    return np.array([row.score for row in rows], dtype=np.float64)


def _scores(predicted: Sequence[PairPrediction]) -> Floats:
    return np.array([one.score for one in predicted], dtype=np.float64)


def _scale(settings: Settings) -> float:
    return float(settings.options.get("scale", 1.0))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _misranked_queries(rows: Sequence[PairRow], true: Floats, given: Floats) -> tuple[Mistake, ...]:
    """Queries whose first document is not a best one, the surest of them first."""
    found = []
    for some in _answerable_queries(rows, true):
        first = max(some, key=lambda i: (given[i], -true[i]))
        best = max(some, key=lambda i: (true[i], given[i]))
        if true[first] < true[best]:
            row, right, wrong = rows[first], rows[best].input["documents"][0], rows[first].input["documents"][0]
            found.append(Mistake(row.input["query"], right, wrong, float(given[first]), row.file, row.line))
    found.sort(key=lambda one: -one.score)
    return tuple(found[:MISTAKES])


def _far(rows: Sequence[PairRow], true: Floats, given: Floats) -> tuple[Mistake, ...]:
    """The pairs whose scores are farthest from their own, which for a model that ranks well need not be near."""
    worst = np.argsort(-np.abs(true - given), kind="stable")[:MISTAKES]
    return tuple(
        Mistake(
            f"{rows[i].input['text']} | {rows[i].input['other']}",
            f"{true[i]:.3f}",
            f"{given[i]:.3f}",
            float(given[i]),
            rows[i].file,
            rows[i].line,
        )
        for i in worst
    )
