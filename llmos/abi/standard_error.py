"""The standard error of a share, by which luck on few rows is told from a difference."""

from __future__ import annotations

from math import sqrt


def standard_error(share: float, rows: int) -> float:
    """sqrt(p (1 - p) / n) of a share of so many rows; 0 for a number that is no share. A mean of values from 0 to 1
    varies no more.
    """
    return sqrt(max(0.0, share * (1 - share)) / rows)
