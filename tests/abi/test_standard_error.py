"""The standard error of a share."""

from __future__ import annotations

import pytest

from llmos.abi.standard_error import standard_error


def test_a_share_varies_most_in_the_middle_and_less_on_more_rows():
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert standard_error(0.9, 100) == pytest.approx(0.03)
    assert standard_error(0.5, 400) == pytest.approx(0.025)


@pytest.mark.parametrize("number", [0.0, 1.0, -0.3, 1.2])
def test_what_cannot_vary_or_is_no_share_has_none(number):
    assert standard_error(number, 10) == 0
