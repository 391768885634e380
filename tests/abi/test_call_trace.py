"""The W3C trace context: what a client sends is taken over, and what is malformed is ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.call_trace import trace_context_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_context_keeps_its_trace_and_gets_a_span_of_our_own():
    found = trace_context_of(f"00-{TRACE}-{SPAN}-01")
    assert (found.trace_id, found.parent_id) == (TRACE, SPAN)
    assert found.span_id != SPAN
    assert found.header == f"00-{TRACE}-{found.span_id}-01"
    assert trace_context_of(found.header).trace_id == TRACE


def test_a_later_version_may_have_more_fields():
    assert trace_context_of(f"01-{TRACE}-{SPAN}-01-more").trace_id == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\r\nx: y",
    ],
)
def test_what_is_malformed_is_ignored(value):
    assert trace_context_of(value) is None


@given(st.text(max_size=80))
def test_any_text_is_a_context_or_none(text):
    found = trace_context_of(text)
    assert found is None or len(found.trace_id) == 32


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("ff", True)])
def test_the_lowest_bit_of_the_flags_says_whether_the_client_records_its_trace(flags, is_sampled):
    assert trace_context_of(f"00-{TRACE}-{SPAN}-{flags}").is_sampled is is_sampled
