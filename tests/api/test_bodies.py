"""What is looked for in the bytes of every body, fast, is what a slow look would find."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.api.endpoint import HALF_PAIR, LOOK_BYTES, has_long_number

ESCAPES = st.sampled_from([r"\ud83d", r"\uDE00", r"\u00e9", "\\", "u", "d8", r"\\", "a"])


@given(st.lists(st.one_of(st.binary(max_size=30), st.text("0123456789", max_size=25).map(str.encode))).map(b"".join))
def test_a_long_number_is_found(body):
    assert has_long_number(body) == bool(re.search(rb"[0-9]{19}", body))


@pytest.mark.parametrize("digits", [18, 19, 20])
@pytest.mark.parametrize("at", [LOOK_BYTES - 19, LOOK_BYTES - 18, LOOK_BYTES - 1, LOOK_BYTES, 2 * LOOK_BYTES - 9])
def test_a_long_number_is_found_wherever_a_look_ends(at, digits):
    assert has_long_number(b"x" * at + b"7" * digits + b"x" * LOOK_BYTES) == (digits >= 19)


@given(st.lists(ESCAPES).map("".join).map(str.encode))
def test_half_of_a_surrogate_pair_is_found_where_it_stands(body):
    first = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
    second = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    plain = re.search(rb"%s(?!%s)|(?<!%s)%s" % (first, second, first, second), body)
    found = HALF_PAIR.search(body)
    assert (found and found.span()) == (plain and plain.span())
