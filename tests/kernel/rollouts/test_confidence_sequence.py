"""Confidence sequences: they cover at all times at once, find what is there to be found, and never lose their nerve."""

from __future__ import annotations

import random
from math import cos, exp, inf, log, pi, sin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.kernel.rollouts.confidence_sequence import interval, is_above, is_below, log_evidence

COUNTS = st.integers(1, 5_000)
SHARES = st.floats(0.0, 1.0)
ALPHAS = st.floats(1e-4, 0.5)


@given(COUNTS, SHARES, ALPHAS)
def test_an_interval_holds_the_estimate_and_stays_within_zero_and_one(count: int, share: float, alpha: float) -> None:
    total = share * count
    low, high = interval(count, total, alpha)
    assert 0.0 <= low <= total / count + 1e-12
    assert total / count - 1e-12 <= high <= 1.0


@given(COUNTS, SHARES, ALPHAS, SHARES)
def test_what_is_shown_to_be_above_lies_under_the_whole_interval(
    count: int, share: float, alpha: float, bound: float
) -> None:
    total = share * count
    low, high = interval(count, total, alpha)
    if is_above(count, total, bound, alpha):
        assert bound <= low + 1e-9
    if is_below(count, total, bound, alpha):
        assert bound >= high - 1e-9


@given(COUNTS, SHARES)
def test_the_interval_of_a_smaller_error_is_wider(count: int, share: float) -> None:
    narrow, wide = interval(count, share * count, 0.2), interval(count, share * count, 0.01)
    assert wide[0] <= narrow[0] + 1e-9
    assert wide[1] >= narrow[1] - 1e-9


@given(COUNTS, SHARES)
def test_zeros_and_ones_are_mirror_images(count: int, share: float) -> None:
    total = share * count
    low, high = interval(count, total, 0.05)
    mirrored = interval(count, count - total, 0.05)
    assert mirrored == pytest.approx((1.0 - high, 1.0 - low), abs=1e-6)


def test_before_the_first_value_nothing_is_known() -> None:
    assert interval(0, 0.0, 0.05) == (0.0, 1.0)
    assert not is_above(0, 0.0, 0.0, 0.5)
    assert not is_below(0, 0.0, 1.0, 0.5)


def test_a_mean_that_a_value_excludes_is_rejected_at_once() -> None:
    assert log_evidence(1, 1.0, 0.0) == inf
    assert log_evidence(1, 0.0, 1.0) == inf
    assert is_above(1, 1.0, 0.0, 1e-6)


@pytest.mark.parametrize(("ones", "zeros"), [(0, 5), (3, 4), (10, 0)])
def test_the_evidence_is_the_mixture_over_all_alternatives(ones: int, zeros: int) -> None:
    """The integral of q^S (1-q)^F over Beta(1/2, 1/2), by the rule of midpoints after q = sin^2 t, over p^S (1-p)^F."""
    p, points = 0.3, 20_000
    step = pi / 2 / points
    places = ((i + 0.5) * step for i in range(points))
    mixed = sum(sin(t) ** (2 * ones) * cos(t) ** (2 * zeros) for t in places) * step * 2 / pi
    expected = log(mixed) - ones * log(p) - zeros * log(1 - p)
    assert log_evidence(ones + zeros, float(ones), p) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.5, 1.0), (0.25, 0.75)])
def test_the_expected_evidence_of_the_true_mean_never_grows(values: tuple[float, ...]) -> None:
    """It is a supermartingale: over all paths of three values, of equal odds, its mean is at most 1."""
    mean = sum(values) / len(values)
    paths = [(a, b, c) for a in values for b in values for c in values]
    for length in (1, 2, 3):
        found = [exp(log_evidence(length, sum(path[:length]), mean)) for path in paths]
        assert sum(found) / len(found) <= 1.0 + 1e-9


def _ever_excluded(seed: int, mean: float, count: int, alpha: float, *, is_binary: bool = True) -> bool:
    """Whether a path's intervals exclude its mean at any time."""
    rng, total = random.Random(seed), 0.0
    for seen in range(1, count + 1):
        hit = rng.random() < mean
        total += float(hit) if is_binary else (0.5 + mean) / 2 if rng.random() < 0.5 else (1.5 * mean - 0.25)
        if log_evidence(seen, total, mean) >= -log(alpha):
            return True
    return False


@pytest.mark.parametrize("mean", [0.02, 0.3, 0.5, 0.95])
def test_looking_after_every_value_is_wrong_in_no_more_runs_than_was_allowed(mean: float) -> None:
    """500 runs of 1,000 looks at an error of 10 %: 50 expected at most; 72 would come by chance in one of 1,000."""
    wrong = sum(_ever_excluded(seed, mean, 1_000, 0.1) for seed in range(500))
    assert wrong <= 72


def test_values_between_zero_and_one_are_covered_too() -> None:
    wrong = sum(_ever_excluded(seed, 0.5, 1_000, 0.1, is_binary=False) for seed in range(200))
    assert wrong <= 34  # of 20 expected at most


def test_an_interval_of_fixed_size_would_be_wrong_much_more_often() -> None:
    """The control: the usual 90 % interval, looked at after every value, is wrong in most of these runs."""
    wrong = 0
    for seed in range(100):
        rng, total = random.Random(seed), 0
        for seen in range(1, 1_001):
            total += rng.random() < 0.5
            if seen >= 20 and abs(total / seen - 0.5) > 1.645 * 0.5 / seen**0.5:
                wrong += 1
                break
    assert wrong >= 50


@pytest.mark.parametrize(("mean", "bound", "within"), [(0.5, 0.8, 60), (0.05, 0.8, 12), (0.7, 0.8, 400)])
def test_a_mean_under_its_bound_is_found_soon(mean: float, bound: float, within: int) -> None:
    found = 0
    for seed in range(100):
        rng, total = random.Random(seed), 0
        for seen in range(1, within + 1):
            total += rng.random() < mean
            if is_below(seen, float(total), bound, 0.025):
                found += 1
                break
    assert found >= 90


def test_the_width_shrinks_as_the_root_of_the_count() -> None:
    widths = [high - low for low, high in (interval(n, 0.3 * n, 0.05) for n in (100, 10_000))]
    assert widths[1] < widths[0] / 6
