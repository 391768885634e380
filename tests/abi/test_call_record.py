"""Ids of calls, and what is kept of answers."""

import pytest

from llmos.abi.call_record import (
    CALL_ID,
    answers_of,
    day_of,
    day_of_call,
    is_sampled,
    join_pieces,
    new_call_id,
    user_of,
)


def test_an_id_says_the_day_of_its_call():
    at = 1_750_000_000.7
    made = {new_call_id(at) for _ in range(50)}
    assert len(made) == 50
    assert {day_of_call(one) for one in made} == {day_of(at)} == {"2025-06-15"}
    assert all(CALL_ID.fullmatch(one) for one in made)


@pytest.mark.parametrize("text", ["", "req_", "req_xyz", f"req_{'0' * 23}", f"chatcmpl-{'0' * 24}"])
def test_a_text_that_is_no_id_has_no_day(text):
    assert day_of_call(text) is None


def test_a_share_of_ids_is_sampled_and_always_the_same():
    ids = [new_call_id(1.0) for _ in range(4_000)]
    taken = [one for one in ids if is_sampled(one, 0.25)]
    assert 800 < len(taken) < 1_200
    assert taken == [one for one in ids if is_sampled(one, 0.25)]
    assert all(is_sampled(one, 1.0) for one in ids)
    assert not any(is_sampled(one, 0.0) for one in ids)


def test_of_an_answer_the_scores_of_other_labels_are_left_out():
    output = {"label": "a", "score": 0.9, "scores": {"a": 0.9, "b": 0.1}}
    assert answers_of([output]) == ({"label": "a", "score": 0.9},)


def test_vectors_are_no_answers():
    assert answers_of([{"dim": 3, "data": b"..."}]) == ()


def test_the_pieces_of_a_stream_are_joined_by_answer():
    pieces = [
        {"text": "on", "finish_reason": None, "index": 1},
        {"text": "ze", "finish_reason": None, "index": 0},
        {"text": "e", "finish_reason": "stop", "index": 1},
        {"text": "ro", "finish_reason": "length", "index": 0},
    ]
    assert [(one["text"], one["finish_reason"]) for one in join_pieces(pieces)] == [("zero", "length"), ("one", "stop")]


def test_the_messages_of_a_stream_are_joined_with_their_tool_calls():
    call = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
    pieces = [
        {"message": {"role": "assistant", "content": "He"}, "finish_reason": None},
        {"message": {"content": "y", "tool_calls": [call]}, "finish_reason": "tool_calls"},
    ]
    (answer,) = join_pieces(pieces)
    assert answer["message"] == {"role": "assistant", "content": "Hey", "tool_calls": [call]}


def test_a_user_is_a_text_of_bounded_length():
    assert user_of(None) == user_of(7) == ""
    assert len(user_of("x" * 1_000)) == 256
