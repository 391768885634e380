"""Confident learning: which given labels are probably wrong, from out-of-fold probabilities.

Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[Any]  # Any: label numbers, or places of rows
    Floats = NDArray[Any]  # Any: float32 or float64

LEAST_LABEL_ROWS = 5  # a label of fewer rows is in no fold's training rows often enough


@dataclass(frozen=True, slots=True, eq=False)
class Issues:
    """Rows whose label is probably wrong, the worst first: their places, a likelier label, and the margin between."""

    places: Numbers
    suggested: Numbers
    margins: Floats


def label_issues(given: Numbers, probabilities: Floats) -> Issues:
    """The rows with the widest margin between another label and their own: as many as the noise rates estimate.

    The noise rates are the confident joint's, off its diagonal. `given` are label numbers [rows], `probabilities`
    out-of-fold [rows, labels].
    """
    count = probabilities.shape[1]
    rows = np.arange(len(given))
    sizes = np.bincount(given, minlength=count)
    joint = confident_joint(given, confident_labels(given, probabilities), count)
    wanted = round(float(joint.sum() - np.trace(joint)))
    margins = probabilities - probabilities[rows, given][:, None]
    margins[rows, given] = -1.0
    suggested = margins.argmax(axis=1)
    widest = np.where(sizes[given] >= LEAST_LABEL_ROWS, margins[rows, suggested], -1.0)
    places = np.argsort(-widest, kind="stable")[:wanted]
    places = places[widest[places] > 0]
    return Issues(places, suggested[places], widest[places])


def thresholds(given: Numbers, probabilities: Floats) -> Floats:
    """Of each label, the mean probability that its own rows have of it; above 1 for a label without rows."""
    count = probabilities.shape[1]
    sizes = np.bincount(given, minlength=count)
    sums = np.bincount(given, weights=probabilities[np.arange(len(given)), given], minlength=count)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), 2.0)


def confident_labels(given: Numbers, probabilities: Floats) -> Numbers:
    """Of each row, the likeliest label among those above their thresholds; -1 if there is none."""
    above = probabilities >= thresholds(given, probabilities)[None, :] - 1e-6
    best = np.where(above, probabilities, -1.0).argmax(axis=1)
    return np.where(above.any(axis=1), best, -1)


def confident_joint(given: Numbers, confident: Numbers, count: int) -> Floats:
    """How many rows of each given label belong to each label, [labels, labels]: counted, scaled to the labels' rows."""
    joint = np.zeros((count, count))
    is_counted = confident >= 0
    np.add.at(joint, (given[is_counted], confident[is_counted]), 1)
    sizes = np.bincount(given, minlength=count)
    sums = joint.sum(axis=1)
    empty = sums == 0
    joint[empty, np.flatnonzero(empty)] = 1
    return joint * (sizes / np.where(empty, 1, sums))[:, None]
