"""Rows of feedback: what is held out, and what agrees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.feedback import HELD_OUT_SHARE, answer_in, is_held_out, same_value, texts_of
from llmos.abi.row_id import RowHmac, fold_text

SPAN = {"start": 0, "end": 2, "label": "P"}
HMAC = RowHmac(b"k" * 32)


def test_a_fixed_share_of_texts_is_held_out():
    held = sum(is_held_out(HMAC.id_of(f"text {number}")) for number in range(5_000))
    assert abs(held / 5_000 - HELD_OUT_SHARE) < 0.03


@given(st.text(min_size=1, max_size=40))
def test_equal_texts_fall_together_whatever_their_case_and_spaces(text):
    same = [HMAC.id_of(fold_text(one)) for one in (text, f"  {text} ")]
    assert is_held_out(same[0]) == is_held_out(same[1])


def test_the_texts_of_an_input_are_those_of_its_row():
    assert texts_of({"text": "a"}) == texts_of("a") == "a"
    assert texts_of({"query": "a", "documents": ["b", "c"]}) == "a | b | c"


@pytest.mark.parametrize(
    ("output", "kind", "said"),
    [
        ({"label": "x", "score": 0.9}, "label", "x"),
        ({"labels": ["b", "a"]}, "label", ["a", "b"]),
        ({"spans": [{"start": 0, "end": 2, "label": "P", "text": "ab"}]}, "label", [SPAN]),
        ({"text": "hello", "finish_reason": "stop"}, "text", "hello"),
        ({"message": {"role": "assistant", "content": "hi"}}, "text", "hi"),
        ({"score": 0.4}, "score", None),
    ],
)  # fmt: skip
def test_of_an_output_that_is_compared_which_feedback_could_say(output, kind, said):
    assert answer_in(output, kind) == said


def test_lists_of_labels_agree_in_any_order():
    assert same_value(["a", "b"], ["b", "a"])
    assert same_value("a", " a ")
    assert not same_value(["a"], ["a", "b"])
