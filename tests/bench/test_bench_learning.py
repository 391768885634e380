"""How many labels of an oracle a head needs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from bench.learning import FIRST, OracleSet, needed


def made(spread: float) -> OracleSet:
    """Rows of four labels around four middles."""
    drawn = np.random.default_rng(5)
    middles = drawn.normal(size=(4, 8))
    labels = drawn.integers(4, size=600)
    vectors = (middles[labels] + spread * drawn.normal(size=(600, 8))).astype(np.float32)
    return OracleSet(vectors[:400], labels[:400], vectors[400:], labels[400:])


@pytest.mark.parametrize("strategy", ["badge", "margin", "random"])
def test_an_easy_set_needs_the_first_rows_and_what_cannot_be_reached_needs_all(strategy: str) -> None:
    assert needed(made(0.01), strategy, 1, 0.9) == pytest.approx(FIRST)
    assert needed(made(1.0), strategy, 1, 1.01) == 1.0
