"""Samples: what each resampling unit contributes to the metrics, so that thousands of resamples need no model.

A unit is what was drawn independently: a text, a sentence, a query with its documents, a passage with its questions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Values = dict[str, Floats]  # by metric: one number for each resample

OWN_RESAMPLES = 200  # of a metric that is a function of rows: each calls it
OWN_SECONDS = 60.0
JACKKNIFE_CELLS = 20_000_000


class Sample(Protocol):
    """The units of one model's predictions, and every metric under weights of them."""

    @property
    def units(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def shares(self) -> Mapping[str, Floats]:
        """The metrics that are a share of units, one outcome (0 or 1) each; their intervals need no resampling."""
        ...

    def values(self, weights: Floats) -> Values:
        """Each metric for each row of `weights` [resamples, units]: how often the unit was drawn."""
        ...

    def without_each(self) -> Values:
        """Each metric without each unit in turn (the jackknife); empty where that is not cheap."""
        ...

    def differing(self, other: Any) -> int:  # Any: a sample of the same kind, of the same units by another model
        """How many units contribute something else to this sample than to the other one."""
        ...


@dataclass(frozen=True, slots=True)
class Sums:
    """Metrics that are functions of sums over units: `metrics` takes sums [n, columns] and gives n numbers of each."""

    statistics: Any  # Any: a scipy.sparse.csr_array [units, columns]; scipy has no types
    metrics: Callable[[Floats], Values]
    rows: int
    shares: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return int(self.statistics.shape[0])

    def values(self, weights: Floats) -> Values:
        return self.metrics(np.asarray((self.statistics.T @ weights.T).T, dtype=np.float64))

    def without_each(self) -> Values:
        units, columns = self.statistics.shape
        if units * columns > JACKKNIFE_CELLS:
            return {}
        return self.metrics(self.statistics.sum(axis=0) - self.statistics.toarray())

    def differing(self, other: Sums) -> int:
        if self.statistics.shape != other.statistics.shape:
            return self.units
        return int(np.count_nonzero(abs(self.statistics - other.statistics).sum(axis=1)))


@dataclass(frozen=True, slots=True)
class Correlations:
    """Spearman's and Pearson's correlation of true and given scores, a unit each."""

    true: Floats
    given: Floats
    shares: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return len(self.true)

    @property
    def rows(self) -> int:
        return len(self.true)

    def values(self, weights: Floats) -> Values:
        ranks = _weighted_ranks(self.true, weights), _weighted_ranks(self.given, weights)
        return {
            "spearman": _weighted_correlation(*ranks, weights),
            "pearson": _weighted_correlation(self.true[None, :], self.given[None, :], weights),
        }

    def without_each(self) -> Values:
        return self.values(1.0 - np.eye(self.units)) if self.units**2 <= JACKKNIFE_CELLS // 10 else {}

    def differing(self, other: Correlations) -> int:
        return int((self.given != other.given).sum())


@dataclass(frozen=True, slots=True)
class FunctionOfRows:
    """A task's own metric, a function of rows: called on each of a few resamples, if that takes less than a minute."""

    function: Callable[[Sequence[int]], Mapping[str, float]]  # of the places of the drawn rows, each as often as drawn
    rows: int
    shares: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return self.rows

    def values(self, weights: Floats) -> Values:
        found: dict[str, list[float]] = {}
        places = np.arange(self.rows)
        began = monotonic()
        for i, counts in enumerate(weights[:OWN_RESAMPLES]):
            try:
                for name, value in self.function(np.repeat(places, counts.astype(int)).tolist()).items():
                    found.setdefault(name, []).append(float(value))
            except (ArithmeticError, ValueError, LookupError):  # a resample may lack what the function divides by
                continue
            if i == 0 and (monotonic() - began) * min(OWN_RESAMPLES, len(weights)) > OWN_SECONDS:
                break
        return {name: np.array(values) for name, values in found.items()}

    def without_each(self) -> Values:
        return {}

    def differing(self, other: FunctionOfRows) -> int:
        return self.units


@dataclass(frozen=True, slots=True)
class Joined:
    """Several samples of the same units as one; of equal names the last one's counts."""

    parts: tuple[Sample, ...]

    @property
    def units(self) -> int:
        return self.parts[0].units

    @property
    def rows(self) -> int:
        return self.parts[0].rows

    @property
    def shares(self) -> Mapping[str, Floats]:
        return {name: share for part in self.parts for name, share in part.shares.items()}

    def values(self, weights: Floats) -> Values:
        return {name: values for part in self.parts for name, values in part.values(weights).items()}

    def without_each(self) -> Values:
        return {name: values for part in self.parts for name, values in part.without_each().items()}

    def differing(self, other: Joined) -> int:
        return max(one.differing(its) for one, its in zip(self.parts, other.parts, strict=True))


def columns_of(columns: Sequence[Sequence[float] | Floats] | Floats, groups: Sequence[Hashable] | None = None) -> Any:
    """These columns as sparse statistics [units, columns]; rows of an equal group are one unit, their sum.

    Any: scipy has no types.
    """
    return sum_by_group(sparse.csr_array(np.array(columns, dtype=np.float64).T), groups)


def beside(*parts: Any) -> Any:
    """Statistics [units, columns], dense or sparse, side by side as sparse ones. Any: scipy has no types."""
    return sparse.hstack([sparse.csr_array(part, dtype=np.float64) for part in parts], format="csr")


def sum_by_group(statistics: Any, groups: Sequence[Hashable] | None) -> Any:  # Any: scipy has no types
    """The statistics summed by group, in the order in which the groups come."""
    if groups is None:
        return statistics
    numbers: dict[Hashable, int] = {}
    places = [numbers.setdefault(group, len(numbers)) for group in groups]
    membership = sparse.csr_array((np.ones(len(places)), (places, range(len(places)))))
    return sparse.csr_array(membership @ statistics)


def ratio(above: Floats, below: Floats) -> Floats:
    """Zero where nothing is below."""
    return np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below > 0)


def _weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """The ranks of values, each there as often as its weight; equal ones share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(counts) - 1
    below = np.cumsum(weights[:, order], axis=1)[:, ends]
    each = np.diff(below, axis=1, prepend=0.0)
    ranks: Floats = (below - (each + 1) / 2)[:, places]
    return ranks


def _weighted_correlation(one: Floats, other: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    a = one - (weights * one).sum(axis=1, keepdims=True) / total
    b = other - (weights * other).sum(axis=1, keepdims=True) / total
    size = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    return ratio((weights * a * b).sum(axis=1), np.where(size > 1e-12, size, 0.0))
