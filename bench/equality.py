"""Whether two ways of computing the same thing agree: speed is compared only between equal answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def least_cosine(left: ArrayLike, right: ArrayLike) -> float:
    """The cosine of the pair of rows that agree least; NaN if a row has no direction or is not a number."""
    first, second = np.asarray(left, np.float64), np.asarray(right, np.float64)
    assert first.shape == second.shape, f"{first.shape} against {second.shape}: not answers to the same inputs"
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.min((first * second).sum(axis=1) / lengths))


def share_equal(left: Sequence[object], right: Sequence[object]) -> float:
    """The share of answers that are the very same."""
    assert len(left) == len(right) > 0, f"{len(left)} answers against {len(right)}"
    return sum(a == b for a, b in zip(left, right, strict=True)) / len(left)


def share_begun(left: Sequence[str], right: Sequence[str]) -> float:
    """How much of a text is the same before the first difference, in the mean over pairs; 1 where there is none."""
    assert len(left) == len(right) > 0, f"{len(left)} answers against {len(right)}"
    return sum(_begun(one, other) for one, other in zip(left, right, strict=True)) / len(left)


def _begun(one: str, other: str) -> float:
    longer = max(len(one), len(other))
    first = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return first / longer if longer else 1.0
