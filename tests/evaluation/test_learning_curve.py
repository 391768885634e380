"""The learning curve: it follows a power law where there is one, promises nothing where there is none, and is cheap."""

from __future__ import annotations

import numpy as np
import pytest

from llmos.evaluation.learning_curve import continue_line, extrapolate, fit_curve, parts_of_rows
from llmos.evaluation.statistics.samples import Sums, columns_of, ratio

SIZES = np.array([250.0, 500.0, 750.0, 1000.0])


def sample(share: float, seed: int, units: int = 2000) -> Sums:
    """Test rows of which this share is right."""
    right = (np.random.default_rng(seed).random(units) < share).astype(float)
    return Sums(columns_of([right, np.ones(units)]), lambda sums: {"accuracy": ratio(sums[:, 0], sums[:, 1])}, units)


def test_a_power_law_is_continued() -> None:
    values = 1 - (0.05 + 2.0 * SIZES**-0.4)
    assert extrapolate(SIZES, values, 2000) == pytest.approx(1 - (0.05 + 2.0 * 2000**-0.4), abs=0.004)


def test_a_flat_curve_promises_nothing_and_a_falling_one_no_fall() -> None:
    assert extrapolate(SIZES, np.full(4, 0.8), 2000) == pytest.approx(0.8)
    assert extrapolate(SIZES, np.array([0.85, 0.84, 0.83, 0.82]), 2000) == pytest.approx(0.82)
    assert extrapolate(SIZES, np.ones(4), 2000) == pytest.approx(1.0)


def test_a_line_goes_on_by_its_later_half_and_does_not_fall() -> None:
    values = np.array([0.1, 0.5, 0.5 + 0.2 * np.log2(1.5), 0.7])
    assert continue_line(SIZES, values, 2000) == pytest.approx(0.9)
    assert continue_line(SIZES, values, 4000) == pytest.approx(1.0)
    assert continue_line(SIZES, np.array([0.85, 0.84, 0.83, 0.82]), 2000) == pytest.approx(0.82)


def test_the_interval_has_what_twice_the_rows_bring() -> None:
    shares = [1 - (0.05 + 2.0 * size**-0.4) for size in SIZES]
    samples = [[sample(share, 10 * i + k) for k in range(3 if i < 3 else 1)] for i, share in enumerate(shares)]
    found = fit_curve("accuracy", [int(size) for size in SIZES], samples)
    assert found is not None
    assert [one.rows for one in found.points] == [250, 500, 750, 1000]
    assert found.ahead.rows == 2000
    assert found.ahead.low < 1 - (0.05 + 2.0 * 2000**-0.4) < found.ahead.high
    assert found.points[0].low < found.points[0].mean < found.points[0].high
    assert found.gain[0] < found.gain[1]
    assert "2,000 training rows instead of 1,000" in found.sentence
    assert fit_curve("f1", [1, 2, 3, 4], samples) is None


def test_parts_are_of_the_asked_size_and_all_rows_are_there_once() -> None:
    parts = parts_of_rows(100)
    assert [(size, len(some)) for size, some in parts] == [(25, 3), (50, 3), (75, 3), (100, 1)]
    assert parts[-1][1][0].tolist() == list(range(100))
    assert all(len(set(places.tolist())) == size for size, some in parts for places in some)
