"""Accuracy without labels: answers of a confidence are taken to be right as often as on the reference rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmos.evaluation.drift.permutation_test import Floats

RESAMPLES = 500


def isotonic(confidence: Floats, right: Floats) -> tuple[Floats, Floats]:
    """The rising step function nearest to the rows: its places and values (pool adjacent violators)."""
    order = np.argsort(confidence, kind="stable")
    blocks: list[list[float]] = []  # mean, weight, first confidence
    for at in order:
        blocks.append([float(right[at]), 1.0, float(confidence[at])])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, weight, _ = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * weight) / (last[1] + weight)
            last[1] += weight
    return np.array([one[2] for one in blocks]), np.array([one[0] for one in blocks])


def estimate_accuracy(
    confidence: Sequence[float], right: Sequence[float], window: Sequence[float], seed: int = 7
) -> tuple[float, float, float]:
    """The accuracy of a window by its confidences, with a 95 % interval over reference and window."""
    sure, hits, asked = np.array(confidence), np.array(right), np.array(window)
    chance, found = np.random.default_rng(seed), []
    for turn in range(RESAMPLES + 1):
        rows = np.arange(len(sure)) if not turn else chance.integers(0, len(sure), len(sure))
        new = asked if not turn else asked[chance.integers(0, len(asked), len(asked))]
        places, values = isotonic(sure[rows], hits[rows])
        found.append(float(values[np.maximum(np.searchsorted(places, new, side="right") - 1, 0)].mean()))
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return found[0], float(low), float(high)
