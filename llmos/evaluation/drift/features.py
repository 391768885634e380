"""Features of inputs by signal: one-hot labels, steps over quantiles, random Fourier features of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.distance import pdist

from llmos.abi.monitoring import ObservedInput
from llmos.evaluation.drift.permutation_test import Floats

QUANTILES = 20
FOURIER = 256
LEAST_SHARE = 0.9  # of inputs that have a signal's value, in both samples
Samples = tuple[Floats, Floats]


def scalar_signals(reference: Sequence[ObservedInput], window: Sequence[ObservedInput]) -> dict[str, Samples]:
    """The features of each signal that both samples have."""
    found = {}
    if _has(lambda one: bool(one.label), reference, window):
        found["labels"] = _one_hot([one.label for one in reference], [one.label for one in window])
    for name, has, value in SCALARS:
        if _has(has, reference, window):
            found[name] = _steps(*(np.array([value(one) for one in some if has(one)]) for some in (reference, window)))
    return found


def fourier_features(reference: Floats, window: Floats, chance: np.random.Generator) -> Samples:
    """Random features whose mean distance is the MMD with a Gaussian kernel of the median distance (Rahimi and Recht
    2007; Gretton et al. 2012)."""
    some = reference[chance.permutation(len(reference))[:200]]
    middle = float(np.median(pdist(some))) if len(some) > 1 else 0.0
    directions = chance.normal(size=(reference.shape[1], FOURIER // 2)) / max(middle, 1e-9)
    return _waves(reference @ directions), _waves(window @ directions)


def _waves(angles: Floats) -> Floats:
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def _has(has: Callable[[ObservedInput], bool], *samples: Sequence[ObservedInput]) -> bool:
    return all(some and sum(map(has, some)) >= LEAST_SHARE * len(some) for some in samples)


def _one_hot(reference: Sequence[str], window: Sequence[str]) -> Samples:
    labels = sorted({*reference, *window})
    place = {label: at for at, label in enumerate(labels)}
    rows = np.eye(len(labels))
    return rows[[place[one] for one in reference]], rows[[place[one] for one in window]]


def _steps(reference: Floats, window: Floats) -> Samples:
    """Whether a value is at most each of some quantiles of both samples."""
    edges = np.unique(np.quantile(np.concatenate([reference, window]), np.linspace(0.0, 1.0, QUANTILES + 1)[:-1]))
    return tuple((some[:, None] <= edges[None, :]).astype(float) for some in (reference, window))  # type: ignore[return-value]  # of two


SCALARS: tuple[tuple[str, Callable[[ObservedInput], bool], Callable[[ObservedInput], float]], ...] = (
    ("confidence", lambda one: one.confidence is not None, lambda one: one.confidence or 0.0),
    ("length", lambda one: one.tokens > 0, lambda one: float(one.tokens)),
    ("fertility", lambda one: one.tokens > 0 and one.words > 0, lambda one: one.tokens / one.words),
    ("unknown_tokens", lambda one: one.tokens > 0, lambda one: one.unknown / one.tokens),
)
