"""Anytime-valid intervals of a mean: they hold at all times at once, so that looking often is no error.

For values in [0, 1] of conditional mean p and any q, the product of (q/p)^x ((1-q)/(1-p))^(1-x) is a supermartingale:
the factor is convex in x, and linear between its values at 0 and 1 it would have mean 1. Mixed over q with
Beta(1/2, 1/2), it depends on the count and the sum alone. By Ville's inequality it ever reaches 1/alpha with
probability at most alpha. The means that it does not reject form the confidence sequence (Robbins 1970; the
beta-binomial mixture of Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 2021; mSPRT in Johari, Koomen,
Pekelis and Walsh 2022). Values other than 0 and 1 are covered, in wider intervals than betting on them gives
(Waudby-Smith and Ramdas, JRSS B 2024).
"""

from __future__ import annotations

from math import inf, lgamma, log

PRIOR = 0.5  # of both parameters: Krichevsky and Trofimov's, whose regret is smallest near 0 and 1
HALVINGS = 40
LOG_BETA = 2 * lgamma(PRIOR) - lgamma(2 * PRIOR)


def log_evidence(count: int, total: float, mean: float) -> float:
    """The logarithm of the mixture against this mean, after `count` values in [0, 1] with this sum.

    inf if a value was seen that the mean excludes: a positive one where it is 0, one under 1 where it is 1.
    """
    rest = count - total
    mixed = lgamma(total + PRIOR) + lgamma(rest + PRIOR) - lgamma(count + 2 * PRIOR) - LOG_BETA
    if (mean <= 0.0 and total > 0.0) or (mean >= 1.0 and rest > 0.0):
        return inf
    under = total * log(mean) if total > 0.0 else 0.0
    return mixed - under - (rest * log(1.0 - mean) if rest > 0.0 else 0.0)


def is_above(count: int, total: float, bound: float, alpha: float) -> bool:
    """Whether the mean is shown to be above this bound."""
    return count > 0 and total > bound * count and log_evidence(count, total, bound) >= -log(alpha)


def is_below(count: int, total: float, bound: float, alpha: float) -> bool:
    """Whether the mean is shown to be below this bound."""
    return count > 0 and total < bound * count and log_evidence(count, total, bound) >= -log(alpha)


def interval(count: int, total: float, alpha: float) -> tuple[float, float]:
    """The ends of the confidence sequence: (0, 1) before the first value."""
    if count == 0:
        return 0.0, 1.0
    centre = min(max(total / count, 0.0), 1.0)
    return _end(count, total, alpha, centre, 0.0), _end(count, total, alpha, centre, 1.0)


def _end(count: int, total: float, alpha: float, inside: float, outside: float) -> float:
    """The mean between these two where the evidence reaches 1/alpha; it grows with the distance from the estimate.

    The rejected side is returned, so that rounding widens the interval.
    """
    most = -log(alpha)
    if log_evidence(count, total, outside) < most:
        return outside
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        if log_evidence(count, total, middle) >= most:
            outside = middle
        else:
            inside = middle
    return outside
