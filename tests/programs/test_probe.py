"""Which dtype the probe's measurements choose."""

from __future__ import annotations

import pytest

from llmos.programs.probe import dtype_of


@pytest.mark.parametrize(
    ("gflops", "dtype"),
    [
        ({"float32": 100.0, "bfloat16": 850.0}, "bfloat16"),
        ({"float32": 100.0, "bfloat16": 10.0}, "float32"),
        ({"float32": 100.0, "bfloat16": 120.0}, "float32"),
        ({}, "float32"),
    ],
)
def test_bfloat16_has_to_be_clearly_faster(gflops, dtype):
    assert dtype_of(gflops) == dtype
