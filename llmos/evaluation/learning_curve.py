"""Learning curve: the metric with 25, 50, 75 and 100 % of the training rows, and what twice the rows should bring.

Measured with linear heads on the base's frozen vectors, which takes seconds. It is no curve of the fine-tuned model,
whose values and gains differ: it says whether more rows help, not how much. There are two extrapolations: a power law
of the error with an irreducible part (Hestness et al. 2017, arXiv:1712.00409), and a straight line over the logarithm
of the rows. With few rows for each of many labels a curve still steepens, and a power law says too little. The interval
holds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from llmos.abi.json_type import Json
from llmos.evaluation.statistics.intervals import draws
from llmos.evaluation.statistics.samples import Sample

SHARES = (0.25, 0.5, 0.75, 1.0)
REPEATS = 3  # random parts of the rows of each share below all
AHEAD = 2.0  # times the rows that the curve is extrapolated to
RESAMPLES = 300
FLOORS = 21  # irreducible errors that are tried, from none to nearly all
TAILS = (0.025, 0.975)
LEAST_GAIN = 0.005  # less than half a point is no gain worth the rows
SEED = 11

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The mean metric with so many training rows, and its 95 % interval over parts of the rows and test rows."""

    rows: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The points, from few rows to all; and what `ahead.rows` should bring."""

    metric: str
    points: tuple[CurvePoint, ...]
    ahead: CurvePoint
    gain: tuple[float, float]  # the interval of what the further rows add

    @property
    def sentence(self) -> str:
        """What a person should know."""
        now, more = self.points[-1], self.ahead
        low, high = self.gain
        metric = self.metric.replace("_", " ")
        said = (
            f"With {more.rows:,} training rows instead of {now.rows:,}, {metric} of linear heads on the base's frozen "
            f"vectors should go from {now.mean:.3f} to about {more.mean:.3f}: a gain of {low:+.3f} to {high:+.3f}, "
            "with 95 % confidence for such heads. The trained model may gain less or more."
        )
        if low > LEAST_GAIN:
            return f"{said} More rows help."
        return (
            f"{said} {'More rows hardly help.' if high < 2 * LEAST_GAIN else 'It is not certain that more rows help.'}"
        )

    def plain(self) -> dict[str, Json]:
        return {
            "metric": self.metric,
            "measured": "linear heads on the base's frozen vectors",
            "points": [asdict(one) for one in self.points],
            "ahead": asdict(self.ahead),
            "gain": list(self.gain),
            "sentence": self.sentence,
        }


def fit_curve(metric: str, rows: Sequence[int], samples: Sequence[Sequence[Sample]]) -> LearningCurve | None:
    """The curve through heads fitted on so many rows each, several times; all samples are of the same test rows.

    Test rows are resampled for all heads at once, and the heads of a size among themselves. None where the metric of
    some head cannot be computed.
    """
    units = samples[0][0].units
    weights = np.concatenate(list(draws(units, SEED, RESAMPLES)))
    values = [[one.values(weights).get(metric) for one in some] for some in samples]
    whole = [[one.values(np.ones((1, units))).get(metric) for one in some] for some in samples]
    if any(one is None or not len(one) for some in (*values, *whole) for one in some):
        return None
    generator = np.random.default_rng(SEED)
    means = np.stack([_resampled_mean(np.stack(some), generator) for some in values])  # type: ignore[arg-type]  # no None
    points = np.array([float(np.mean(some)) for some in whole])  # type: ignore[arg-type]  # as above
    sizes = np.asarray(rows, dtype=np.float64)
    ahead_rows = int(AHEAD * rows[-1])
    ways = (extrapolate, continue_line)
    ahead = np.stack([[way(sizes, one, ahead_rows) for one in means.T] for way in ways])
    middle = float(np.mean([way(sizes, points, ahead_rows) for way in ways]))
    low, high = np.quantile(ahead, TAILS, axis=1)
    least, most = np.quantile(ahead - means[-1], TAILS, axis=1)
    return LearningCurve(
        metric,
        tuple(
            CurvePoint(size, float(point), *map(float, np.quantile(some, TAILS)))
            for size, point, some in zip(rows, points, means, strict=True)
        ),
        CurvePoint(ahead_rows, middle, float(low.min()), float(high.max())),
        (float(least.min()), float(most.max())),
    )


def extrapolate(sizes: Floats, values: Floats, ahead: int) -> float:
    """The value at `ahead` by 1 - value = floor + scale * size ** -slope with the best floor; it does not fall."""
    errors = np.maximum(1 - values, 1e-6)
    x = np.log(sizes)
    best, found = np.inf, float(values[-1])
    for floor in np.linspace(0.0, 0.95, FLOORS) * errors.min():
        slope, start = np.polyfit(x, np.log(errors - floor), 1)
        slope = min(slope, 0.0)
        start = float(np.mean(np.log(errors - floor) - slope * x))
        left = float((((floor + np.exp(start + slope * x)) - errors) ** 2).sum())
        if left < best - 1e-12:
            best = left
            step = np.exp(start + slope * x[-1]) - np.exp(start + slope * np.log(ahead))
            found = float(min(1.0, values[-1] + max(0.0, float(step))))
    return found


def continue_line(sizes: Floats, values: Floats, ahead: int) -> float:
    """The value at `ahead` by a straight line over the logarithm of the rows, through the points from half of them on;
    it does not fall."""
    is_late = sizes >= sizes[-1] / 2
    slope = float(np.polyfit(np.log(sizes[is_late]), values[is_late], 1)[0])
    return float(min(1.0, values[-1] + max(0.0, slope) * np.log(ahead / sizes[-1])))


def parts_of_rows(count: int) -> list[tuple[int, list[NDArray[np.int64]]]]:
    """By size: the places of random parts of so many rows; of all rows the one there is."""
    generator = np.random.default_rng(SEED)
    sizes = [round(share * count) for share in SHARES]
    return [
        (size, [np.sort(generator.permutation(count)[:size]) for _ in range(REPEATS if size < count else 1)])
        for size in sizes
    ]


def _resampled_mean(values: Floats, generator: np.random.Generator) -> Floats:
    """The mean over heads drawn with replacement, [resamples]; values are [heads, resamples]."""
    heads, resamples = values.shape
    drawn = generator.integers(heads, size=(heads, resamples))
    mean: Floats = np.take_along_axis(values, drawn, axis=0).mean(axis=0)
    return mean
