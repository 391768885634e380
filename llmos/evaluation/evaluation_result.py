"""The result of an evaluation: metrics, counts and the worst mistakes, for any task."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llmos.evaluation.statistics.intervals import Interval

MISTAKES = 20  # that are shown
Probabilities = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What an evaluation found: the headline first in `metrics`; rows and columns of the confusion are in `names`.

    `intervals` are of the metrics that have one: counts have none.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    names: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    mistakes: tuple[Mistake, ...] = field(default_factory=tuple)
    intervals: dict[str, Interval] = field(default_factory=dict)

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """The ends of the intervals."""
        return {name: (one.low, one.high) for name, one in self.intervals.items()}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One row that was answered wrongly, and how sure the model was."""

    text: str
    expected: str
    given: str
    score: float
    file: str
    line: int
