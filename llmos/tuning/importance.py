"""Importances: how much of the metric's variance at the first rung each setting explains, by itself."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from llmos.tuning.history import History
from llmos.tuning.space import Dimension, Space

LEAST_TRIALS = 6  # of fewer nothing is said
GROUPS = 3  # a factor's trials are put in groups of neighbouring values


def importances(space: Space, history: History) -> dict[str, float]:
    """The correlation ratio of each setting, adjusted for chance, highest first; empty for few trials.

    It is the first-order part of an analysis of variance (epsilon squared, Kelley 1935): the share of the variance
    between groups of equal or neighbouring values, less what groups of that size explain by chance. All trials count
    at the first rung, where all were measured. Interactions are not told apart.
    """
    results = history.at(0)
    found: dict[str, float] = {}
    for one in space.dimensions:
        pairs = [
            (one.place_of(history.settings[result.trial][one.name]), result.metric)
            for result in results
            if one.name in history.settings[result.trial]
        ]
        if len(pairs) >= LEAST_TRIALS:
            found[one.name] = round(_explained_share(_groups(one, pairs)), 3)
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _groups(one: Dimension, pairs: Sequence[tuple[float, float]]) -> list[list[float]]:
    """The metrics of equal choices, or of thirds of a factor's values."""
    ordered = sorted(pairs)
    if one.values:
        places = dict.fromkeys(place for place, _ in ordered)
        return [[metric for place, metric in ordered if place == group] for group in places]
    size = len(ordered) / GROUPS
    cut = [ordered[round(i * size) : round((i + 1) * size)] for i in range(GROUPS)]
    return [[metric for _, metric in group] for group in cut]


def _explained_share(groups: Sequence[Sequence[float]]) -> float:
    """Epsilon squared of these groups: from 0, also where chance would explain more, to 1."""
    values = [value for group in groups for value in group]
    count, mean = len(values), fmean(values)
    total = sum((value - mean) ** 2 for value in values)
    if total <= 1e-12 or len(groups) < 2 or count <= len(groups):
        return 0.0
    within = sum((value - fmean(group)) ** 2 for group in groups for value in group)
    between = total - within
    error = within / (count - len(groups))
    return min(1.0, max(0.0, (between - (len(groups) - 1) * error) / total))
