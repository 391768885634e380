"""A domain classifier: a linear one that tells the window's vectors from the reference's, judged on vectors that it has
not seen (Lopez-Paz and Oquab 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from llmos.evaluation.drift.permutation_test import Floats, TestResult

RIDGE = 1.0  # times the mean variance


@dataclass(frozen=True, slots=True)
class Separation:
    """The test, and of each vector of the window how well it is told from the reference; higher is better."""

    test: TestResult
    scores: Floats


def separate(reference: Floats, window: Floats, level: float, chance: np.random.Generator) -> Separation:
    """Train on each half and score the other; the statistic is the area under the curve of one half.

    Given the classifier, the ranks of the other half are exchangeable where nothing differs, so the p value is that of
    Wilcoxon's rank sum.
    """
    vectors = np.concatenate([reference, window])
    is_new = np.arange(len(vectors)) >= len(reference)
    half = np.zeros(len(vectors), dtype=bool)
    for own in (np.flatnonzero(is_new), np.flatnonzero(~is_new)):
        half[chance.permutation(own)[: len(own) // 2]] = True
    scores = np.empty(len(vectors))
    for learned in (half, ~half):
        scores[~learned] = _scores(vectors[learned], is_new[learned], vectors[~learned])
    return Separation(_rank_test(scores[~half], is_new[~half], level), scores[len(reference) :])


def _scores(vectors: Floats, is_new: np.ndarray, others: Floats) -> Floats:
    """Fisher's linear discriminant with a ridge."""
    means = vectors[is_new].mean(axis=0), vectors[~is_new].mean(axis=0)
    centred = np.where(is_new[:, None], vectors - means[0], vectors - means[1])
    spread = centred.T @ centred / len(vectors)
    ridge = RIDGE * max(float(np.trace(spread)) / len(spread), 1e-12)
    direction = np.linalg.solve(spread + ridge * np.eye(len(spread)), means[0] - means[1])
    scores: Floats = (others - (means[0] + means[1]) / 2) @ direction
    return scores


def _rank_test(scores: Floats, is_new: np.ndarray, level: float) -> TestResult:
    new, old = int(is_new.sum()), int((~is_new).sum())
    area = (float(rankdata(scores)[is_new].sum()) - new * (new + 1) / 2) / (new * old)
    spread = float(np.sqrt((new + old + 1) / (12 * new * old)))
    return TestResult(area, float(norm.sf((area - 0.5) / spread)), float(0.5 + spread * norm.isf(level)))
