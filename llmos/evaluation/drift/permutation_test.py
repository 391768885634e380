"""A two-sample test of mean features: its null distribution by permutation of both samples, with a fitted tail.

Every signal is a matrix of features (inputs x k). The statistic is the weighted squared distance of the two samples'
means: of one-hot labels a chi-square, of steps over quantiles an Anderson-Darling statistic, of random Fourier features
the MMD. The tail beyond the permutations is a Pearson III distribution with their first three moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import pearson3

PERMUTATIONS = 1_000
LEAST_BEYOND = 20  # permutations beyond the statistic, for their share to be the p value
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TestResult:
    """The statistic, its p value, and the statistic whose p value is `level`."""

    statistic: float
    p_value: float
    threshold: float


def compare_means(reference: Floats, window: Floats, level: float, permutations: int = PERMUTATIONS) -> TestResult:
    """Compare two samples of features [n, k] and [w, k]."""
    both = np.concatenate([reference, window])
    both = both / np.sqrt(np.maximum(both.var(axis=0), 1.0 / len(both) ** 2))
    both = both - both.mean(axis=0)
    count, size = len(both), len(window)
    scale = size * (count - size) / count
    sums = (
        _masks(count, size, permutations) @ both
    )  # of the window's part; the rest has minus this sum, because all sums are 0
    null = scale * ((sums * (1.0 / size + 1.0 / (count - size))) ** 2).sum(axis=1)
    own = both[len(reference) :].sum(axis=0) * (1.0 / size + 1.0 / (count - size))
    statistic = float(scale * (own**2).sum())
    return _tail(statistic, null, level)


@lru_cache(2)
def _masks(count: int, size: int, permutations: int) -> Floats:
    """Which rows are the window's, in each permutation: drawn once, because they do not depend on the rows."""
    masks = np.zeros((permutations, count))
    places = np.argsort(np.random.default_rng(count).random((permutations, count)), axis=1)[:, :size]
    np.put_along_axis(masks, places, 1.0, axis=1)
    return masks


def _tail(statistic: float, null: Floats, level: float) -> TestResult:
    mean, spread = float(null.mean()), float(null.std())
    if spread <= 1e-12:  # all rows alike
        return TestResult(statistic, 1.0, float("inf"))
    skew = float(((null - mean) ** 3).mean() / spread**3)
    fitted = pearson3(max(skew, 1e-3), loc=mean, scale=spread)
    beyond = int((null >= statistic).sum())
    p_value = (
        beyond / len(null) if beyond >= LEAST_BEYOND else min(float(fitted.sf(statistic)), LEAST_BEYOND / len(null))
    )
    return TestResult(statistic, p_value, float(fitted.isf(level)))
