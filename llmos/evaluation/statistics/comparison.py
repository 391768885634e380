"""Two models compared on the same rows: McNemar's test for shares, the paired bootstrap for other metrics.

Tests are one-sided at 5 % in each direction, so an interval has 90 % and each of its ends is a bound at 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from math import ceil, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm, t

from llmos.abi.json_type import Json
from llmos.evaluation.statistics.intervals import LEAST_VALUES, SEED, resample
from llmos.evaluation.statistics.samples import Floats, Sample

ERROR = 0.05  # of equal models this share is called better, and as many worse
POWER = 0.8  # the share of such comparisons that `more_rows` more rows would decide
MOST_ROWS = 10_000_000
MCNEMAR, BOOTSTRAP = "mid-p McNemar test", "paired bootstrap"


class Standing(StrEnum):
    """How a candidate stands to the promoted version."""

    BETTER = "better"
    NOT_WORSE = "not worse"
    WORSE = "worse"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric of two models on the same rows, theirs and ours, and how sure their difference is.

    `low` and `high` bound the difference, each at 95 %; `p_better` is how often an equal model would look as much
    better by chance, `p_worse` as much worse; `deviation` is the standard deviation of the difference by unit.
    """

    metric: str
    ours: float
    theirs: float
    low: float
    high: float
    p_better: float
    p_worse: float
    deviation: float
    units: int
    rows: int
    method: str

    @property
    def difference(self) -> float:
        return self.ours - self.theirs

    def standing(self, margin: float = 0.0) -> Standing:
        """Better before not worse, and that before worse: a loss that is within the margin for certain is none."""
        if self.p_better < ERROR and self.low > 0:
            return Standing.BETTER
        if margin > 0 and self.low > -margin:
            return Standing.NOT_WORSE
        if self.p_worse < ERROR and self.high < 0:
            return Standing.WORSE
        return Standing.CANNOT_TELL

    def more_rows(self, margin: float = 0.0) -> int | None:
        """About how many more rows would decide with 80 % power, if the models differ as they did; None: no number."""
        effect = max(abs(self.difference), self.difference + margin)
        if not effect > 0 or not self.deviation > 0:
            return None
        needed = ((norm.ppf(1 - ERROR) + norm.ppf(POWER)) * self.deviation / effect) ** 2 * self.rows / self.units
        more = max(1, ceil(needed - self.rows)) if isfinite(needed) else MOST_ROWS
        return more if more < MOST_ROWS else None

    def plain(self) -> dict[str, Json]:
        """As evidence keeps it."""
        return {**asdict(self), "difference": self.difference}


def compare(ours: Sample, theirs: Sample, metric: str, *, seed: int = SEED) -> Comparison | None:
    """The difference of this metric of two models, whose samples have the same units in the same order; None where one
    of them does not have it on these rows."""
    if metric in ours.shares and metric in theirs.shares:
        return mcnemar(metric, ours.shares[metric], theirs.shares[metric], ours.rows)
    whole = np.ones((1, ours.units))
    points: list[Sequence[float] | Floats] = [one.values(whole).get(metric, ()) for one in (ours, theirs)]
    if not all(len(one) for one in points):
        return None
    mine, its = (float(one[0]) for one in points)
    first, second = (one[metric] for one in resample((ours, theirs), seed))
    shared = min(len(first), len(second))
    if shared < LEAST_VALUES:
        return _unknown(metric, mine, its, ours)
    found = paired_bootstrap(metric, mine, its, first[:shared] - second[:shared], ours.units, ours.rows)
    return _of_few_differences(found, ours.differing(theirs))


def mcnemar(metric: str, ours: Floats, theirs: Floats, rows: int) -> Comparison:
    """By the rows that one has right and the other wrong (McNemar 1947). The mid-p (Lancaster 1961) is nearer to
    its level than the exact p; the interval is Tango's score interval (1998)."""
    count = len(ours)
    won, lost = int(((ours > 0) & (theirs <= 0)).sum()), int(((ours <= 0) & (theirs > 0)).sum())
    either = won + lost
    tie = float(binom.pmf(won, either, 0.5)) / 2
    low, high = tango(won, lost, count)
    return Comparison(
        metric,
        float(ours.mean()),
        float(theirs.mean()),
        low,
        high,
        p_better=float(binom.sf(won, either, 0.5)) + tie,
        p_worse=float(binom.cdf(won, either, 0.5)) - tie,
        deviation=sqrt(max(either - (won - lost) ** 2 / count, 0.0) / count),
        units=count,
        rows=rows,
        method=MCNEMAR,
    )


def tango(won: int, lost: int, count: int, error: float = ERROR) -> tuple[float, float]:
    """The score interval of a difference of paired shares; `error` is what each end may miss by."""
    z = float(norm.ppf(1 - error))
    difference = (won - lost) / count

    def score(delta: float) -> float:
        a, c = 2 * count, -lost * delta * (1 - delta)
        b = -won - lost + (2 * count - won + lost) * delta
        share = (sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        spread = count * (2 * share + delta * (1 - delta))
        return (won - lost - count * delta) / sqrt(spread) if spread > 0 else 0.0

    edge = 1 - 1e-9
    low = -1.0 if score(-edge) <= z else float(brentq(lambda delta: score(delta) - z, -edge, difference, xtol=1e-9))
    high = 1.0 if score(edge) >= -z else float(brentq(lambda delta: score(delta) + z, difference, edge, xtol=1e-9))
    return low, high


def paired_bootstrap(metric: str, ours: float, theirs: float, differences: Floats, units: int, rows: int) -> Comparison:
    """From the differences on paired resamples: percentiles widened to Student's t, which few units need
    (Hesterberg 2015), and p values that agree with them."""
    low, high = np.quantile(differences, [_widen(ERROR, units), 1 - _widen(ERROR, units)])
    return Comparison(
        metric,
        ours,
        theirs,
        float(low),
        float(high),
        p_better=_p(differences <= 0, differences == 0, units),
        p_worse=_p(differences >= 0, differences == 0, units),
        deviation=float(differences.std()) * sqrt(units),
        units=units,
        rows=rows,
        method=BOOTSTRAP,
    )


def _unknown(metric: str, ours: float, theirs: float, sample: Sample) -> Comparison:
    """Of a metric that takes too long to be computed often: nothing can be told."""
    reach = ours - theirs - 1, ours - theirs + 1
    return Comparison(metric, ours, theirs, *reach, 0.5, 0.5, 0.0, sample.units, sample.rows, "too slow to resample")


def _of_few_differences(found: Comparison, differing: int) -> Comparison:
    """Resamples of units that are all alike, or nearly, differ too little: no p is below that of as many coins that all
    fall alike, and no interval is narrower than a score interval of shares without any difference."""
    z = float(norm.ppf(1 - ERROR))
    reach, coins = z * z / (found.units + z * z), 0.5**differing
    return replace(
        found,
        low=min(found.low, found.difference - reach),
        high=max(found.high, found.difference + reach),
        p_better=max(found.p_better, coins),
        p_worse=max(found.p_worse, coins),
    )


def _widen(tail: float, units: int) -> float:
    if units < 2:
        return 0.0
    return float(norm.cdf(sqrt(units / (units - 1)) * t.ppf(tail, units - 1)))


def _p(against: NDArray[np.bool_], ties: NDArray[np.bool_], units: int) -> float:
    """How often chance alone gives such a difference: one more than there were, so it is never zero."""
    if units < 2:
        return 1.0
    share = (float(against.sum()) - float(ties.sum()) / 2 + 1) / (len(against) + 1)
    return float(t.cdf(norm.ppf(min(share, 1.0)) * sqrt((units - 1) / units), units - 1))
