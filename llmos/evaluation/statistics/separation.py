"""Separation: how often a unit that is true has the higher score of a true and a false one (the area under ROC)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from llmos.evaluation.statistics.samples import JACKKNIFE_CELLS, Floats, Values


@dataclass(frozen=True, slots=True)
class Separations:
    """The separation of each score by name, [units] each, of units that are true or false. Ties count half.

    Without a true or a false unit nothing is separated: 0.5, as by chance.
    """

    scores: Mapping[str, Floats]
    is_true: Floats  # 1 or 0, [units]
    shares: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return len(self.is_true)

    @property
    def rows(self) -> int:
        return len(self.is_true)

    def values(self, weights: Floats) -> Values:
        return {name: separation(score, self.is_true, weights) for name, score in self.scores.items()}

    def without_each(self) -> Values:
        return self.values(1.0 - np.eye(self.units)) if self.units**2 <= JACKKNIFE_CELLS // 10 else {}

    def differing(self, other: Separations) -> int:
        differs = np.zeros(self.units, bool)
        for name, score in self.scores.items():
            differs |= score != other.scores.get(name, score)
        return int(differs.sum())


def separation(scores: Floats, is_true: Floats, weights: Floats) -> Floats:
    """The area under ROC, [resamples], of scores [units] under weights [resamples, units]."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    order, ends = np.argsort(places, kind="stable"), np.cumsum(counts) - 1
    good, bad = weights * is_true, weights * (1.0 - is_true)
    bad_to = np.cumsum(bad[:, order], axis=1)[:, ends]  # of each score, those at or below it
    at = np.diff(bad_to, axis=1, prepend=0.0)
    won = (good * (bad_to - at / 2)[:, places]).sum(axis=1)
    pairs = good.sum(axis=1) * bad.sum(axis=1)
    found: Floats = np.divide(won, pairs, out=np.full(len(weights), 0.5), where=pairs > 0)
    return found
