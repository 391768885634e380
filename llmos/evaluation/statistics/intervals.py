"""Intervals of metrics by the bootstrap (Efron 1979), bias-corrected and accelerated (BCa, Efron 1987) where cheap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm

from llmos.abi.json_type import Json
from llmos.evaluation.statistics.samples import Floats, Sample, Values

RESAMPLES = 2000
LEAST_RESAMPLES = 500
MOST_DRAWS = 400_000_000  # of units, in all resamples: of very large test sets fewer are made
LEAST_VALUES = 50  # of a metric: fewer resamples of it say nothing
CHUNK_CELLS = 1_000_000
SEED = 20_260
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the metric lies on all rows like these, at this level of confidence; `method` is how it was found."""

    low: float
    high: float
    level: float
    method: str

    def plain(self) -> dict[str, Json]:
        return asdict(self)


def intervals(sample: Sample, *, level: float = LEVEL, seed: int = SEED) -> dict[str, Interval]:
    """An interval of every metric: Wilson's of a share of units, BCa where the jackknife is cheap, else percentiles."""
    if not sample.units:
        return {}
    point = sample.values(np.ones((1, sample.units)))
    jackknife = sample.without_each()
    (resamples,) = resample((sample,), seed)
    found = {}
    for name, values in resamples.items():
        if name in sample.shares:
            found[name] = wilson(float(sample.shares[name].sum()), sample.units, level)
        elif len(values) < LEAST_VALUES or not len(point.get(name, ())):
            continue
        elif np.ptp(values) == 0 and values[0] in (0.0, 1.0):
            found[name] = _of_equal_units(float(values[0]), sample.units, level)
        else:
            found[name] = _bootstrap(float(point[name][0]), values, jackknife.get(name), level)
    return found


def resample(samples: Sequence[Sample], seed: int = SEED) -> list[Values]:
    """Every metric of each sample on the same resamples of their units: the same draws for all, so they are paired."""
    units = samples[0].units
    assert all(one.units == units for one in samples), "paired samples have the same units"
    parts = [[one.values(weights) for one in samples] for weights in draws(units, seed)]
    return [
        {name: np.concatenate([part[i][name] for part in parts if name in part[i]]) for name in parts[0][i]}
        for i in range(len(samples))
    ]


def draws(units: int, seed: int = SEED, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """How often each unit is in each resample, a chunk of resamples at a time, [resamples, units]."""
    generator = np.random.default_rng(seed)
    left = min(resamples, max(LEAST_RESAMPLES, MOST_DRAWS // units))
    while left:
        count = min(left, max(1, CHUNK_CELLS // units))
        drawn = generator.integers(units, size=(count, units))
        drawn += np.arange(count)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)
        left -= count


def wilson(hits: float, count: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval (1927) of a share; it is no point where all or none are hits."""
    z = float(norm.ppf((1 + level) / 2))
    share = hits / count
    middle = share + z * z / (2 * count)
    spread = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return Interval(
        max(0.0, float(low)) if hits else 0.0, min(1.0, float(high)) if hits < count else 1.0, level, "wilson"
    )


def _of_equal_units(value: float, units: int, level: float) -> Interval:
    """All units are alike, so no resample differs: so many others there may be (Clopper and Pearson 1934)."""
    others = 1 - ((1 - level) / 2) ** (1 / units)
    return Interval(0.0, others, level, "exact") if value == 0 else Interval(1 - others, 1.0, level, "exact")


def _bootstrap(point: float, values: Floats, jackknife: Floats | None, level: float) -> Interval:
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    method = "percentile bootstrap"
    if jackknife is not None and (gaps := jackknife.mean() - jackknife).any():
        acceleration = (gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5)
        below = ((values < point).sum() + (values == point).sum() / 2) / len(values)
        bias = norm.ppf(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
        reach = bias + norm.ppf(tails)
        tails = norm.cdf(bias + reach / (1 - acceleration * reach))
        method = "BCa bootstrap"
    low, high = np.quantile(values, tails)
    return Interval(float(low), float(high), level, method)
