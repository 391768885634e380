"""A look at a window of calls: every signal against the reference, with the false alarms of all looks bounded.

A week has a fixed budget of false alarms, which its looks share equally. Within a look, Benjamini and Hochberg's
procedure bounds the false alarms over the signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from llmos.abi.monitoring import ObservedInput
from llmos.evaluation.drift.domain_classifier import separate
from llmos.evaluation.drift.features import fourier_features, scalar_signals
from llmos.evaluation.drift.permutation_test import Floats, TestResult, compare_means

WEEK_S = 7 * 86_400.0
FALSE_ALARMS_A_WEEK = 0.05
LOOK_EVERY_S = 60.0  # in the long run
AT_ONCE = 20  # looks that may follow each other sooner
LOOKS_A_WEEK = WEEK_S / LOOK_EVERY_S + AT_ONCE
LEVEL = FALSE_ALARMS_A_WEEK / LOOKS_A_WEEK
SIGNALS = 7
SEED = 7


class LookBudget:
    """Allows a look a minute in the long run, and some at once after a pause."""

    def __init__(self, now: float, left: float = float(AT_ONCE)) -> None:
        self._at, self._left = now, left

    def wait_s(self, now: float) -> float:
        """How long until the next look is allowed; 0: it is."""
        self._left = min(float(AT_ONCE), self._left + max(0.0, now - self._at) / LOOK_EVERY_S)
        self._at = now
        return max(0.0, 1.0 - self._left) * LOOK_EVERY_S

    def take(self) -> None:
        """A look has been made."""
        self._left -= 1.0


@dataclass(frozen=True, slots=True)
class InputSample:
    """Inputs, and where their texts are kept their vectors [n, dim]; an input without one has no row."""

    inputs: Sequence[ObservedInput]
    vectors: Floats | None = None
    texts: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LookResult:
    """The tests by signal, those that are alarms, and the window's texts that are best told from the reference."""

    tests: Mapping[str, TestResult]
    alarms: frozenset[str]
    texts: tuple[tuple[str, float], ...] = ()


def look_at(reference: InputSample, window: InputSample, seed: int = SEED, level: float = LEVEL) -> LookResult:
    """Test every signal that both samples have, on one thread: products this small gain nothing by more."""
    with threadpool_limits(limits=1):
        return _look(reference, window, seed, level)


def _look(reference: InputSample, window: InputSample, seed: int, level: float) -> LookResult:
    chance = np.random.default_rng(seed)
    alone = level / SIGNALS
    signals = scalar_signals(reference.inputs, window.inputs)
    tests = {
        name: compare_means(*features, alone)
        for name, features in signals.items()
        if any(np.ptp(np.concatenate(features), axis=0))  # of equal values there is nothing to test
    }
    texts: tuple[tuple[str, float], ...] = ()
    if reference.vectors is not None and window.vectors is not None and len(window.vectors) >= len(window.inputs) / 2:
        waves = fourier_features(reference.vectors, window.vectors, chance)
        tests["embeddings"] = compare_means(*waves, alone)
        found = separate(reference.vectors, window.vectors, alone, chance)
        tests["domain"] = found.test
        best = np.argsort(-found.scores)[:5]
        texts = tuple((window.texts[at], round(float(found.scores[at]), 3)) for at in best)
    return LookResult(tests, benjamini_hochberg({name: one.p_value for name, one in tests.items()}, level), texts)


def benjamini_hochberg(p_values: Mapping[str, float], level: float, count: int = SIGNALS) -> frozenset[str]:
    """The signals whose p values are small enough, of `count` that there may be."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    kept = [at for at, name in enumerate(ordered, 1) if p_values[name] <= level * at / count]
    return frozenset(ordered[: max(kept, default=0)])
