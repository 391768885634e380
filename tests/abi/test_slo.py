"""Objectives as they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadSetting
from llmos.abi.slo import LEAST_BUDGET, objectives_of


def test_a_percentile_is_a_budget_of_slow_calls():
    (one,) = objectives_of({"p99": "50ms"})
    assert (one.text, one.budget, one.limit_s) == ("p99<=50ms", 0.01, 0.05)


@pytest.mark.parametrize(("written", "budget"), [("0.1%", 0.001), (0.001, 0.001), ("0.05", 0.05), ("2 %", 0.02)])
def test_errors_are_a_share_of_calls_in_any_way_of_writing_it(written, budget):
    (one,) = objectives_of({"errors": written})
    assert (one.budget, one.limit_s) == (pytest.approx(budget), 0.0)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"p100": "1s"},
        {"p0": "1s"},
        {"p99": "fast"},
        {"p99": "0ms"},
        {"p99": True},
        {"p99": float("inf")},
        {"errors": "0%"},
        {"errors": "120%"},
        {"errors": 1.0},
        {"errors": "nan"},
        {"latency": "1s"},
    ],
    ids=str,
)
def test_what_is_no_objective_is_refused(asked):
    with pytest.raises(BadSetting):
        objectives_of(asked)


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=12), st.floats(), st.booleans()), max_size=10))
def test_whatever_is_written_is_an_objective_or_refused(asked):
    try:
        found = objectives_of(asked)
    except BadSetting:
        return
    assert all(LEAST_BUDGET <= one.budget < 1.0 for one in found)
