"""The gate's policy as it is written: which requirements there are, and what is said of one that cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.gate import (
    AS_GOOD,
    AT_LEAST,
    AT_MOST,
    DEFAULT_POLICY,
    KINDS,
    METRIC,
    GatePolicy,
    Requirement,
    gate_policy,
    parse_requirement,
)
from llmos.abi.wire import from_json, to_json
from llmos.testing.errors import fails_with


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.example)
def test_the_example_of_each_kind_is_one(kind):
    assert KINDS[parse_requirement(kind.example).kind] is kind


def test_a_requirement_is_read_however_it_is_spaced():
    assert parse_requirement(" f1 >= 80% ") == Requirement(METRIC, "f1", operator=AT_LEAST, number=0.8)
    assert parse_requirement("perplexity<=12.5") == Requirement(METRIC, "perplexity", operator=AT_MOST, number=12.5)
    low = parse_requirement("macro_f1.low>=8e-1")
    assert (low.subject, low.is_low, str(low)) == ("macro_f1", True, "macro_f1.low>=0.8")
    assert str(parse_requirement("F1.LOW >= 80 %")) == "f1.low>=0.8"
    assert str(parse_requirement("suite:/Data/X.yaml")) == "suite:/Data/X.yaml"


@given(
    st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True).filter(lambda name: name not in KINDS),
    st.booleans(),
    st.sampled_from((AT_LEAST, AT_MOST)),
    st.floats(-1e6, 1e6, allow_nan=False),
)
def test_what_is_written_is_read_again(name: str, is_low: bool, operator: str, number: float):
    one = Requirement(METRIC, name, is_low=is_low, operator=operator, number=float(f"{number:g}"))
    assert parse_requirement(str(one)) == one


@given(st.text(max_size=40))
def test_any_text_is_a_requirement_or_is_refused_with_examples(text: str):
    try:
        found = parse_requirement(text)
    except BadInput as error:
        said = error.message
    else:
        said = "f1.low>=0.8"
        assert parse_requirement(str(found)) == found
    assert "f1.low>=0.8" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("f1", "a metric needs >= or <="),
        ("latency_ms>=3", "it is written latency_ms<=20"),
        ("latency<=3:x", "write >= or <= and a number"),
        ("beter", "did you mean better?"),
        ("better>=0.2", "it is written better"),
        ("f1>0.8", "write >= or <= and a number"),
        ("f1>=0.8.1", "0.8.1 is no number"),
        ("x" * 400, "it is no requirement"),
    ],
)
def test_a_requirement_that_cannot_be_is_refused_with_the_way_out(text: str, said: str):
    with pytest.raises(BadInput) as refused:
        parse_requirement(text)
    assert said in refused.value.message


@pytest.mark.parametrize(
    "text", ["accuracy>=80", "macro_f1.low>=-0.1", "abstain<=1.5", "abstain<=0", "calibration_error<=2", "size_mb<=0"]
)
def test_a_number_that_nothing_meets_is_refused_but_read_where_it_was_kept(text: str):
    with fails_with(BadInput, key="require"):
        gate_policy([text])
    assert str(GatePolicy((text,)).requirements[0]) == text


def test_a_policy_compares_unless_it_says_otherwise():
    assert gate_policy() == DEFAULT_POLICY == GatePolicy((AS_GOOD,), 0.0)
    assert gate_policy(["f1 >= 0.8", "f1>=0.8"], 0.01) == GatePolicy((AS_GOOD, "f1>=0.8"), 0.01)
    assert gate_policy(["better"]).require == ("better",)
    with fails_with(BadInput, key="require", reason="exclusive"):
        gate_policy(["better", "not-worse"])


@pytest.mark.parametrize("margin", [-0.1, 1.5, float("nan"), True])
def test_a_margin_is_a_number_from_0_to_1(margin: float):
    with fails_with(BadInput, key="margin", value=...):
        gate_policy(margin=margin)


def test_a_policy_comes_back_from_the_journal_as_it_was():
    policy = gate_policy(["not-worse", "size_mb<=50"], 0.02)
    assert from_json(to_json(policy), GatePolicy) == policy
