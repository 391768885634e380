"""A body is weighed before it is decoded: what it may hold is bounded, and the text in it is not what is counted."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, TooLong
from llmos.api.endpoint import decode_body, has_long_number
from llmos.api.weight import MAX_EXPONENTS, MAX_VALUES, check_weight
from llmos.testing.errors import fails_with

ANY = msgspec.json.Decoder()


@pytest.mark.parametrize("unit", [b"1,", b"[],", b"{},", b'{"a":1},', b'"",', b"[[]],"], ids=repr)
def test_more_values_than_any_request_needs_are_refused_and_half_as_many_are_not(unit):
    with fails_with(TooLong, unit="values", limit=MAX_VALUES):
        check_weight(b'{"a":[' + unit * (MAX_VALUES + 1) + b"1]}")
    check_weight(b'{"a":[' + unit * (MAX_VALUES // 4) + b"1]}")


def test_numbers_with_an_exponent_are_few_and_true_and_false_are_none():
    with fails_with(TooLong, unit="numbers with an exponent", limit=MAX_EXPONENTS):
        check_weight(b"[" + b"1e300," * (MAX_EXPONENTS + 1) + b"1]")
    check_weight(b"[" + b"true,false," * (MAX_EXPONENTS * 4) + b"1]")


def test_what_stands_in_a_text_is_not_counted():
    text = 'a, [b] {c} 1e5 \\ " \\" \\\\' * MAX_VALUES
    check_weight(json.dumps({"input": text, text[:99]: [text, text]}).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_any_small_body_is_let_through(value):
    check_weight(json.dumps(value).encode())
    check_weight(json.dumps(value, ensure_ascii=False).encode())


@given(st.binary(max_size=80))
def test_a_long_number_is_digits_in_a_row(body):
    run = best = 0
    for byte in body:
        run = run + 1 if byte in b"0123456789" else 0
        best = max(best, run)
    assert has_long_number(body) is (best >= 19)


@given(st.integers(-(2**66), 2**66), st.lists(st.integers(0, 9), max_size=3))
def test_a_whole_number_is_read_where_a_frame_can_carry_it_and_named_where_none_can(number, before):
    body = json.dumps({"a": [*before, {"b": number}], "c": str(10**30)}).encode()
    if -(2**63) <= number < 2**64:
        assert decode_body(body, ANY)["a"][-1] == {"b": number}
    else:
        with fails_with(BadInput, value=str(number)[:24]):
            decode_body(body, ANY)
