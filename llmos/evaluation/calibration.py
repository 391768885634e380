"""The mathematics of calibration: temperature, calibration error, thresholds that keep a promise, conformal sets.

Nothing here knows of models or rows. Probabilities come as arrays of float64, [n, classes]; what is fitted is fitted on
validation rows, and what is measured is measured on test rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmos.evaluation.binomial import binomial_cdf
from llmos.tasks.calibration import ANY_SURETY

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

LEAST_SHARE = 1e-30  # a probability of nothing at all has no logarithm
SHARPNESS_RANGE = (0.02, 20.0)  # of 1 / temperature
NEWTON_STEPS = 100
FOLDS = 10  # that test a temperature
BINS = 15  # as in Guo et al. 2017
LEAST_BIN = 10  # decisions of a bin
SIMULATIONS = 2000
SEED = 7
CONFIDENCE = 0.95  # that a promise holds, over the draw of the validation rows
PILOT_SHARE = 0.1  # of the validation rows: they say which thresholds are tried, the others test them
GRID = 20  # thresholds that are tried
RISKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
COVERAGES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999)
NEVER = 2.0  # a threshold that no score reaches
MOST_ROWS = 10_000_000  # where more would be needed, rows do not help


def log_shares(shares: Floats) -> Floats:
    """The logarithms of probabilities, none of them minus infinity."""
    return np.log(np.maximum(shares, LEAST_SHARE))


def temper(shares: Floats, temperature: float, biases: Floats | None = None) -> Floats:
    """Probabilities as softmax gives them when their logits are divided by the temperature; rows sum to 1.

    `biases`: are added to the logits after that, [classes].
    """
    scaled = log_shares(shares) / temperature
    if biases is not None:
        scaled += biases
    grown = np.exp(scaled - scaled.max(-1, keepdims=True))
    made: Floats = grown / grown.sum(-1, keepdims=True)
    return made


def fit_temperature(shares: Floats, true: Indices) -> float:
    """The temperature with the least negative log likelihood (Guo et al. 2017, arXiv:1706.04599).

    The likelihood is concave in 1 / temperature, so Newton's steps, kept between bounds, find its one maximum. One row
    of unknown label is added, as Platt (1999) adds one: where every answer is right, the temperature stays over 0.
    """
    logs = log_shares(shares)
    ignorance = 1.0 / (len(logs) + 1)
    aim = (1.0 - ignorance) * logs[np.arange(len(logs)), true] + ignorance * logs.mean(-1)
    low, high = SHARPNESS_RANGE
    sharpness = 1.0
    for _ in range(NEWTON_STEPS):
        weights = temper(shares, 1.0 / sharpness)
        expected = (weights * logs).sum(-1)
        slope = float((expected - aim).mean())
        bend = float(((weights * logs**2).sum(-1) - expected**2).mean())
        low, high = (low, sharpness) if slope > 0 else (sharpness, high)
        step = sharpness - slope / bend if bend > 0 else math.inf
        after = step if low < step < high else math.sqrt(low * high)
        if abs(after - sharpness) < 1e-9 * sharpness:
            break
        sharpness = after
    return 1.0 / sharpness


@dataclass(frozen=True, slots=True)
class Temperature:
    """The temperature that was fitted, and how often chance alone would gain as much by one on rows it has not seen.

    `losses`: the mean negative log likelihood a decision, of rows not seen, of no temperature and of one.
    """

    value: float
    p: float
    losses: tuple[float, float]

    @property
    def is_shown(self) -> bool:
        """Whether it is better than none beyond chance."""
        return self.p < 1.0 - CONFIDENCE


def cross_fit_temperature(shares: Floats, true: Indices, units: Indices) -> Temperature:
    """Fit a temperature on all decisions, and test by cross-fitting whether it is worth anything.

    Each of ten parts of the rows is scored with the temperature of the nine others; the mean gain in log likelihood a
    row is held against its standard error (one-sided, by the normal distribution). `units`: the row of each decision,
    [n]; decisions of one row are in one part. A few validation rows, of which the best epoch was chosen, often ask for
    a temperature that test rows do not.
    """
    rows, places = np.unique(units, return_inverse=True)
    parts = np.random.default_rng(SEED).permutation(len(rows)) % FOLDS
    gains = np.zeros(len(rows))
    for part in range(min(FOLDS, len(rows))):
        is_out = parts[places] == part
        own = fit_temperature(shares[~is_out], true[~is_out])
        there = shares[is_out], true[is_out]
        gain = _likelihood(temper(there[0], own), there[1]) - _likelihood(*there)
        np.add.at(gains, places[is_out], gain)
    none = -float(_likelihood(shares, true).mean())
    losses = none, none - float(gains.sum()) / len(true)
    return Temperature(fit_temperature(shares, true), chance_of_gain(gains), losses)


def chance_of_gain(gains: Floats) -> float:
    """How often chance alone would give so large a mean: one-sided, by its standard error and the normal distribution.

    1.0 where all gains are equal.
    """
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains))
    return 0.5 * math.erfc(float(gains.mean()) / error / math.sqrt(2)) if error > 0 else 1.0


def _likelihood(shares: Floats, true: Indices) -> Floats:
    """The logarithm of each true label's probability."""
    found: Floats = log_shares(shares)[np.arange(len(true)), true]
    return found


@dataclass(frozen=True, slots=True)
class Bin:
    """Decisions of similar confidence: how many, how sure on average, and which share of them is right."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """The expected calibration error over bins of equally many decisions, and what chance alone would give.

    `by_chance` is the mean error of a perfectly calibrated model on as many decisions of these confidences, `limit` the
    value that it exceeds once in twenty times (consistency resampling, Bröcker and Smith 2007). `debiased` is the root
    of the mean squared error of the bins less the variance of their accuracies, which is what chance adds to it (Kumar,
    Liang and Ma 2019, arXiv:1909.10155); 0 where chance explains all of it.
    """

    error: float
    debiased: float
    by_chance: float
    limit: float
    count: int
    bins: tuple[Bin, ...]


def reliability(confidence: Floats, right: Flags, bins: int = BINS) -> Reliability:
    """How far confidence and accuracy lie apart; the confidence is the probability of the decision that was taken."""
    count = len(confidence)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, max(1, min(bins, count // LEAST_BIN)))
    found = tuple(Bin(len(part), float(confidence[part].mean()), float(right[part].mean())) for part in parts)
    sizes = np.array([one.count for one in found])
    sure = np.clip([one.confidence for one in found], 0.0, 1.0)
    share = np.array([one.accuracy for one in found])
    error = float((sizes * np.abs(sure - share)).sum() / count)
    squared = (sure - share) ** 2 - share * (1 - share) / np.maximum(sizes - 1, 1)
    debiased = math.sqrt(max(0.0, float((sizes * squared).sum() / count)))
    drawn = np.random.default_rng(SEED).binomial(sizes, sure, (SIMULATIONS, len(found)))
    chance = np.abs(drawn - sizes * sure).sum(-1) / count
    return Reliability(error, debiased, float(chance.mean()), float(np.quantile(chance, CONFIDENCE)), count, found)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Thresholds that were tried on validation rows, strictest first: how many rows each answers, how many wrongly."""

    thresholds: tuple[float, ...]
    answered: tuple[int, ...]
    wrong: tuple[int, ...]
    rows: int  # that tested them
    tries: int  # models among which these rows have chosen


def try_thresholds(surety: Floats, right: Flags, tries: int = 1) -> Candidates:
    """Count the rows that each of 20 thresholds answers, and the wrong ones among them.

    A tenth of the rows, chosen by a fixed seed, sets the thresholds: the quantiles of its surety, and one that answers
    everything. The other rows test them, so that no threshold depends on what tests it. `tries`: so many models, such
    as the epochs of a run, were compared on the same rows before this one was kept.
    """
    order = np.random.default_rng(SEED).permutation(len(surety))
    pilot, test = np.split(order, [max(1, round(PILOT_SHARE * len(surety)))])
    cuts = np.quantile(surety[pilot], np.arange(GRID - 1, 0, -1) / GRID)
    thresholds = (*map(float, cuts), ANY_SURETY)
    given = [surety[test] >= cut for cut in thresholds]
    wrong = [int((~right[test][some]).sum()) for some in given]
    return Candidates(thresholds, tuple(int(some.sum()) for some in given), tuple(wrong), len(test), tries)


def threshold_for(found: Candidates, risk: float, confidence: float = CONFIDENCE) -> float | None:
    """The least surety from which on at most this share of the given answers is wrong, with this confidence.

    Learn then test (Angelopoulos et al. 2021, arXiv:2110.01052): each threshold is a hypothesis, "more are wrong than
    promised", with an exact binomial p-value, as Geifman and El-Yaniv (2017) bound the selective risk. They are tested
    from the strictest on, each at its own part of the error level and at all that those rejected just before it had
    (fallback procedure, Wiens 2003). None: the rows do not suffice for any.
    """
    part = (1.0 - confidence) / (len(found.thresholds) * found.tries)
    level, chosen = 0.0, None
    for threshold, answered, wrong in zip(found.thresholds, found.answered, found.wrong, strict=True):
        level += part
        if answered and binomial_cdf(wrong, answered, risk) <= level:
            chosen = threshold
        else:
            level = 0.0
    return chosen


def thresholds_for(
    found: Candidates, risks: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[tuple[float, float], ...]:
    """Every promise of these that the rows suffice for, with its threshold, the smallest risk first."""
    made = ((risk, threshold_for(found, risk, confidence)) for risk in sorted(set(risks)))
    return tuple((risk, threshold) for risk, threshold in made if threshold is not None)


def rows_needed(found: Candidates, risk: float, confidence: float = CONFIDENCE) -> int | None:
    """About how many validation rows this promise takes; None where even the surest answers are wrong more often.

    It supposes that more rows give the same shares of answers and of wrong ones among them, counted a little high.
    """
    level = (1.0 - confidence) / (len(found.thresholds) * found.tries)
    needed: list[int] = []
    for answered, wrong in zip(found.answered, found.wrong, strict=True):
        share = (wrong + 0.5) / (answered + 1)
        if answered and share < risk and (count := _answers_needed(share if wrong else 0.0, risk, level)) is not None:
            needed.append(math.ceil(count * found.rows / answered / (1.0 - PILOT_SHARE)))
    return min(needed, default=None)


def _answers_needed(share: float, risk: float, level: float) -> int | None:
    """How many answers, this share of them wrong, say that at most `risk` of all are."""

    def suffices(count: int) -> bool:
        return binomial_cdf(math.ceil(share * count), count, risk) <= level

    high = 1
    while not suffices(high):
        high *= 2
        if high > MOST_ROWS:
            return None
    low = high // 2
    while high - low > max(1, high // 1000):
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def set_thresholds(true_shares: Floats, coverages: Sequence[float] = COVERAGES) -> tuple[tuple[float, float], ...]:
    """For each coverage, the least probability of a label that is in a row's set, from those of true labels.

    Split conformal prediction (Vovk et al. 2005) with the least ambiguous sets (Sadinle, Lei and Wasserman 2019): a set
    contains the true label with at least this probability, over exchangeable rows. Coverages that so few rows cannot
    promise are left out.
    """
    falling = np.sort(true_shares)[::-1]
    ranks = ((coverage, math.ceil(coverage * (len(falling) + 1))) for coverage in coverages)
    return tuple((coverage, float(falling[rank - 1])) for coverage, rank in ranks if rank <= len(falling))


def precision_thresholds(
    labels: Sequence[str], decisions: Mapping[str, tuple[Floats, Flags]], precision: float
) -> dict[str, float]:
    """For each label the least score from which on it is right so often on these rows, one more wrong answer counted.

    A label with too few right answers to show it takes the threshold of all labels together, unless its answers there
    are worse. A label that does not reach the precision is never given: its threshold is over 1.
    """
    scores = np.concatenate([decisions[label][0] for label in labels])
    right = np.concatenate([decisions[label][1] for label in labels])
    shared = _precise_from(scores, right, precision)
    return {label: _threshold_of(*decisions[label], precision, shared) for label in labels}


def _threshold_of(scores: Floats, right: Flags, precision: float, shared: float) -> float:
    own = _precise_from(scores, right, precision)
    is_scarce = right.sum() < precision / (1.0 - precision)  # so many right answers and no wrong one would show it
    there = right[scores >= shared]
    return shared if own == NEVER and is_scarce and there.sum() >= precision * len(there) else own


def _precise_from(scores: Floats, right: Flags, precision: float) -> float:
    order = np.argsort(-scores, kind="stable")
    counts = np.arange(1, len(order) + 1)
    ranked = scores[order]
    is_reached = np.cumsum(right[order]) / (counts + 1) >= precision
    is_reached[:-1] &= ranked[:-1] > ranked[1:]  # rows of one score are given together
    reached = np.flatnonzero(is_reached)
    return float(ranked[reached[-1]]) if len(reached) else NEVER


def auroc(inside: Floats, outside: Floats) -> float:
    """The probability that a row inside scores higher than one outside, ties counted half (Mann and Whitney 1947)."""
    both = np.concatenate((inside, outside))
    _, places, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = float(ranks[places[: len(inside)]].sum())
    return (total - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside))
