"""classify, embed, generate, chat: check, render, parse; and how tasks are found."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, TooLong
from llmos.tasks import TASKS, Rendered, Settings, task
from llmos.tasks.classify import sigmoid, softmax
from llmos.tasks.generate import Sampling, sampling
from llmos.testing.tokenizer import PieceTokenizer

TWO = Settings(("bad", "good"), {}, 16)
NONE = Rendered([])


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_found_by_its_name_and_checks_twice_alike(name: str) -> None:
    found = task(name)
    assert found.name == name
    special = {
        "chat": [{"role": "user", "content": "hello"}],
        "rerank": {"query": "hello", "documents": ["hi", {"text": "bye"}]},
        "similarity": ["hello", "hi"],
        "answer": {"question": "hello?", "passage": "hi"},
    }
    given_input = special.get(name, "hello")
    once = found.check(given_input)
    assert found.check(once) == once


def test_an_unknown_task_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="classify, tag"):
        task("clasify")


def test_one_label_comes_with_the_scores_of_all_best_first() -> None:
    answer = task("classify").parse([0.0, math.log(3)], NONE, TWO, {})
    assert (answer["label"], round(answer["score"], 6), list(answer["scores"])) == ("good", 0.75, ["good", "bad"])
    assert list(task("classify").parse([0.0, 1.0], NONE, TWO, {"top_k": 1})["scores"]) == ["good"]


def test_many_labels_are_those_over_the_threshold() -> None:
    many = Settings(("a", "b", "c"), {"multi_label": True, "threshold": 0.4}, 16)
    assert task("classify").parse([0.0, -9.0, 9.0], NONE, many, {})["labels"] == ["c", "a"]
    assert task("classify").parse([0.0, -9.0, 9.0], NONE, many, {"threshold": 0.9})["labels"] == ["c"]
    with pytest.raises(BadInput, match="from 0 to 1"):
        task("classify").parse([0.0, 0.0, 0.0], NONE, many, {"threshold": "high"})


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20))
def test_shares_are_probabilities_for_any_logits(logits: list[float]) -> None:
    shares = softmax(logits)
    assert math.isclose(math.fsum(shares), 1)
    assert all(0 <= p <= 1 for p in (*shares, *map(sigmoid, logits)))


@pytest.mark.parametrize("name", ["classify", "embed"])
def test_a_long_text_is_refused_or_keeps_its_start_and_its_ending(name: str) -> None:
    one = {"text": " ".join(f"w{i}" for i in range(40))}
    with pytest.raises(TooLong, match="42 tokens; the model takes 16"):
        task(name).render([one], PieceTokenizer(), TWO)
    cut = Settings(TWO.labels, {"truncate": True, "max_tokens": 8}, 16)
    (closed,) = task(name).render([one], PieceTokenizer(), cut)
    (open_ended,) = task(name).render([one], PieceTokenizer(closes=False), cut)
    assert (len(closed.ids), closed.ids[-1]) == (8, 1)
    assert open_ended.ids[:7] == closed.ids[:7]
    assert open_ended.ids[-1] != 1


def test_an_embedding_travels_as_bytes() -> None:
    assert task("embed").parse(b"\0" * 12, NONE, TWO, {}) == {"dim": 3, "data": b"\0" * 12}


def test_a_prompt_leaves_room_for_a_token_and_keeps_its_end_when_cut() -> None:
    one = {"prompt": " ".join(f"w{i}" for i in range(16))}
    with pytest.raises(TooLong):
        task("generate").render([one], PieceTokenizer(closes=False), TWO)
    whole = PieceTokenizer(closes=False).encode([one["prompt"]])[0].ids
    (cut,) = task("generate").render([one], PieceTokenizer(closes=False), Settings((), {"truncate": True}, 16))
    assert cut.ids == whole[-15:]


def test_a_conversation_is_cut_from_its_oldest_message_and_keeps_the_system() -> None:
    say = [{"role": role, "content": "some four word text"} for role in ("system", "user", "assistant", "user")]
    checked = task("chat").check({"messages": say})
    with pytest.raises(TooLong, match="conversation"):
        task("chat").render([checked], PieceTokenizer(), Settings((), {}, 24))
    (cut,) = task("chat").render([checked], PieceTokenizer(), Settings((), {"truncate": True}, 18))
    kept = PieceTokenizer().chat([say[0], say[3]])
    assert cut.ids == PieceTokenizer().encode([kept], special=False)[0].ids


def test_content_parts_of_text_are_joined_and_others_refused() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert task("chat").check([{"role": "user", "content": parts}])["messages"][0]["content"] == "one two"
    with pytest.raises(BadInput, match="Only text"):
        task("chat").check([{"role": "user", "content": [{"type": "image_url"}]}])
    with pytest.raises(BadInput, match="role"):
        task("chat").check([{"role": "boss", "content": "x"}])


def test_what_is_said_about_sampling_is_checked() -> None:
    assert sampling({"stop": "\n", "seed": 3, "temperature": 0}) == Sampling(temperature=0.0, seed=3, stop=("\n",))
    for bad in ({"temperature": 3}, {"top_p": "x"}, {"top_k": 1.5}, {"max_tokens": 0}, {"stop": [""]}, {"seed": True}):
        with pytest.raises(BadInput, match=next(iter(bad))):
            sampling(bad)


def test_text_and_its_newest_piece_have_one_shape() -> None:
    raw = {"text": "hi", "finish_reason": None}
    assert task("generate").parse(raw, NONE, TWO, {}) == raw
    assert task("chat").parse(raw, NONE, TWO, {})["message"] == {"role": "assistant", "content": "hi"}
