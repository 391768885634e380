"""The bench of shadows: its figures."""

from __future__ import annotations

import pytest

from bench.shadow import figures


def test_a_slower_tail_over_all_rounds_misses_the_target():
    alone = [0.010] * 98 + [0.100] * 2
    half, most, tail, copies = figures({False: alone, True: [*alone[:-2], 0.120, 0.120]}, copied=25)
    assert (half.value, most.value) == (1.0, 1.0)
    assert tail.value == pytest.approx(1.2)
    assert (half.verdict, tail.verdict) == ("", "NOT MET")
    assert copies.value == 0.25
