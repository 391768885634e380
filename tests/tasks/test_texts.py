"""classify, embed, generate, chat: check, render, parse; and how tasks are found."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, TooLong
from llmos.abi.task import BUILT_IN, task_names
from llmos.tasks import Rendered, Settings, task
from llmos.tasks.classify import sigmoid, softmax
from llmos.tasks.generate import Sampling, sampling
from llmos.tasks.text import quote_value
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import PieceTokenizer

TWO = Settings(("bad", "good"), {}, 16)
NONE = Rendered([])


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_task_is_found_by_its_name_and_checks_twice_alike(name: str) -> None:
    found = task(name)
    assert found.spec.name == name
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
    with fails_with(BadInput, task="clasify", expected=list(task_names())):
        task("clasify")


def test_one_label_comes_with_the_scores_of_all_best_first() -> None:
    answer = task("classify").parse([0.0, math.log(3)], NONE, TWO, {})
    assert (answer["label"], round(answer["score"], 6), list(answer["scores"])) == ("good", 0.75, ["good", "bad"])
    assert list(task("classify").parse([0.0, 1.0], NONE, TWO, {"top_k": 1})["scores"]) == ["good"]
    with fails_with(BadInput, key="threshold", reason="one_label"):
        task("classify").parse([0.0, 1.0], NONE, TWO, {"threshold": 0.5})


def test_many_labels_are_those_over_the_threshold() -> None:
    many = Settings(("a", "b", "c"), {"multi_label": True, "threshold": 0.4}, 16)
    assert task("classify").parse([0.0, -9.0, 9.0], NONE, many, {})["labels"] == ["c", "a"]
    assert task("classify").parse([0.0, -9.0, 9.0], NONE, many, {"threshold": 0.9})["labels"] == ["c"]
    with fails_with(BadInput, key="threshold", value="high"):
        task("classify").parse([0.0, 0.0, 0.0], NONE, many, {"threshold": "high"})


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20))
def test_shares_are_probabilities_for_any_logits(logits: list[float]) -> None:
    shares = softmax(logits)
    assert math.isclose(math.fsum(shares), 1)
    assert all(0 <= p <= 1 for p in (*shares, *map(sigmoid, logits)))


@pytest.mark.parametrize("name", ["classify", "embed"])
def test_a_long_text_is_refused_or_keeps_its_start_and_its_ending(name: str) -> None:
    one = {"text": " ".join(f"w{i}" for i in range(40))}
    with fails_with(TooLong, size=42, limit=16):
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
    with fails_with(TooLong, size=28, limit=23, context=24):
        task("chat").render([checked], PieceTokenizer(), Settings((), {}, 24))
    (cut,) = task("chat").render([checked], PieceTokenizer(), Settings((), {"truncate": True}, 18))
    kept = PieceTokenizer().chat([say[0], say[3]])
    assert cut.ids == PieceTokenizer().encode([kept], special=False)[0].ids


def test_content_parts_of_text_are_joined_and_others_refused() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert task("chat").check([{"role": "user", "content": parts}])["messages"][0]["content"] == "one two"
    with fails_with(BadInput, at="messages[0]", value="[{'type': 'image_url'}]"):
        task("chat").check([{"role": "user", "content": [{"type": "image_url"}]}])
    with fails_with(BadInput, at="messages[0]", value="{'role': 'boss', 'content': 'x'}"):
        task("chat").check([{"role": "boss", "content": "x"}])


def test_what_is_said_about_sampling_is_checked() -> None:
    assert sampling({"stop": "\n", "seed": 3, "temperature": 0}) == Sampling(temperature=0.0, seed=3, stop=("\n",))
    asked = sampling({"n": 3, "min_p": 0.1, "logit_bias": {"7": -1, "8": 2.5}, "logprobs": True, "top_logprobs": None})
    assert (asked.n, asked.min_p, asked.logit_bias, asked.top_logprobs) == (3, 0.1, ((7, -1.0), (8, 2.5)), 0)


@pytest.mark.parametrize(
    ("bad", "key"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": "x"}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"seed": True}, "seed"),
        ({"min_p": 1.1}, "min_p"),
        ({"presence_penalty": -2.5}, "presence_penalty"),
        ({"frequency_penalty": "0"}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": "x" * 300}, "stop"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(2000)}}, "logit_bias"),
        ({"logprobs": 2}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ],
)
def test_what_cannot_be_asked_is_named_with_its_value(bad: dict[str, object], key: str) -> None:
    with fails_with(BadInput, key=key, value=quote_value(bad[key])):
        sampling(bad)


@pytest.mark.parametrize("bad", [{"one": 1}, {"1": 101}, {"-1": 1}])
def test_a_bias_that_cannot_be_is_named_by_its_token(bad: dict[str, object]) -> None:
    with fails_with(BadInput, key="logit_bias", value=quote_value(next(iter(bad)))):
        sampling({"logit_bias": bad})


def test_more_stops_than_there_may_be_are_refused_with_their_limit() -> None:
    with fails_with(BadInput, key="stop", limit=16):
        sampling({"stop": [str(i) for i in range(10_000)]})


def test_each_of_several_answers_has_a_seed_of_its_own() -> None:
    settings = sampling({"seed": 2**63 - 1, "n": 2})
    assert [settings.for_answer(k).seed for k in (0, 1)] == [2**63 - 1, -(2**63)]
    assert sampling({}).for_answer(3).seed is None


def test_text_and_its_newest_piece_have_one_shape() -> None:
    raw = {"text": "hi", "finish_reason": None}
    assert task("generate").parse(raw, NONE, TWO, {}) == raw
    assert task("chat").parse(raw, NONE, TWO, {})["message"] == {"role": "assistant", "content": "hi"}


def json_values():
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(
        leaf, lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(), inner, max_size=40), max_leaves=60
    )


@given(json_values(), st.integers(1, 90))
def test_a_value_is_shown_by_the_beginning_of_its_text(value, width) -> None:
    text = repr(value)
    assert quote_value(value, width) == (text if len(text) <= width else f"{text[: width - 1]}…")


def test_a_value_is_shown_without_a_look_at_more_than_a_line_of_it() -> None:
    class Watched(list):
        taken = 0

        def __iter__(self):
            for one in list.__iter__(self):
                Watched.taken += 1
                yield one

    deep = []
    for _ in range(5_000):
        deep = [deep]
    assert quote_value(Watched([deep] * 5_000)).startswith("[[[[[")
    assert Watched.taken <= 81


def test_a_token_id_of_a_bias_has_few_digits() -> None:
    with fails_with(BadInput, key="logit_bias"):
        sampling({"logit_bias": {"1" * 5_000: 1}})
