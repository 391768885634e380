"""Exact binomial probabilities and intervals for counts of wrong answers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

STEPS = 60  # of bisection: an interval of 1 becomes shorter than any float can tell


def binomial_cdf(count: int, total: int, share: float) -> float:
    """The probability of at most `count` of `total` where each has this probability, from 0 to 1."""
    if count < 0:
        return 0.0
    if count >= total or share <= 0.0:
        return 1.0
    if share >= 1.0:
        return 0.0
    found = np.arange(count + 1)
    factorials = _log_factorials(total)
    ways = factorials[total] - factorials[found] - factorials[total - found]
    logs = ways + found * math.log(share) + (total - found) * math.log1p(-share)
    return float(min(1.0, np.exp(logs).sum()))


def clopper_pearson(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a share, `count` of `total` (Clopper and Pearson 1934)."""
    tail = (1.0 - confidence) / 2
    return _lower(count, total, tail), _upper(count, total, tail)


def _upper(count: int, total: int, tail: float) -> float:
    if count >= total:
        return 1.0
    return _crossing(lambda share: binomial_cdf(count, total, share) > tail)


def _lower(count: int, total: int, tail: float) -> float:
    if count <= 0:
        return 0.0
    return _crossing(lambda share: 1.0 - binomial_cdf(count - 1, total, share) < tail)


def _crossing(is_below: Callable[[float], bool]) -> float:
    """Where from 0 to 1 this stops being true."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def _log_factorials(most: int) -> NDArray[np.float64]:
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, most + 1, dtype=np.float64)))))
