"""Streams are put together as openai's own helpers do it, whatever comes in whatever pieces."""

import json

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from llmos.api.chunks import ChatChoices, TextChoices
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

HELLO = [{"role": "user", "content": "hello"}]
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m:1"}
OSLO = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
ROME = {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


def piece(content="", *, calls=(), reason=None, index=None, scored=None):
    message = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = [{"index": at, **call} for at, call in calls]
    made = {"message": message, "finish_reason": reason}
    if scored is not None:
        made["logprobs"] = scored
    return made if index is None else made | {"index": index}


def choices_of(*pieces):
    choices = ChatChoices()
    return [one for each in pieces for one in choices.of(each)]


def put_together(*pieces):
    """The answer as openai's stream helper puts it together, and the events that it fires on the way."""
    state, fired = ChatCompletionStreamState(), []
    for choice in choices_of(*pieces):
        fired += [event.type for event in state.handle_chunk(ChatCompletionChunk(**HEAD, choices=[choice]))]
    return state.get_final_completion().choices, fired


def test_the_role_comes_once_then_the_content_then_the_reason_alone():
    assert choices_of(piece("Hel"), piece(""), piece("lo", reason="stop")) == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None},
        {"index": 0, "delta": {"content": "Hel"}, "logprobs": None, "finish_reason": None},
        {"index": 0, "delta": {"content": "lo"}, "logprobs": None, "finish_reason": None},
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"},
    ]


def test_an_answer_of_nothing_has_its_role_and_its_reason():
    ((choice,), fired) = put_together(piece("", reason="stop"))
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "", "stop")
    assert set(fired) <= {"chunk", "content.delta"}


def test_a_call_is_named_before_its_arguments_and_ends_before_the_reason():
    made = choices_of(piece(None, calls=[(0, OSLO)]), piece(None, calls=[(1, ROME)], reason="tool_calls"))
    assert [choice["delta"] for choice in made] == [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, **OSLO, "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Oslo"}'}}]},
        {"tool_calls": [{"index": 1, **ROME, "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"city": "Rome"}'}}]},
        {},
    ]
    assert [choice["finish_reason"] for choice in made] == [None] * 5 + ["tool_calls"]


def test_openais_helper_closes_text_and_every_call_whole():
    ((choice,), fired) = put_together(
        piece("Let me see."), piece(None, calls=[(0, OSLO), (1, ROME)]), piece("", reason="tool_calls")
    )
    assert choice.message.content == "Let me see."
    assert [json.loads(call.function.arguments)["city"] for call in choice.message.tool_calls] == ["Oslo", "Rome"]
    assert [call.id for call in choice.message.tool_calls] == ["call_1", "call_2"]
    assert fired.count("content.done") == 1
    assert fired.count("tool_calls.function.arguments.done") == 2


def test_the_last_text_is_in_what_openais_helper_says_is_done():
    state, done = ChatCompletionStreamState(), []
    for choice in choices_of(piece("whole"), piece(" text", reason="stop")):
        for event in state.handle_chunk(ChatCompletionChunk(**HEAD, choices=[choice])):
            done += [event.content] if event.type == "content.done" else []
    assert done == ["whole text"]


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3)), max_size=20), st.permutations(range(4)))
def test_several_answers_are_put_together_in_whatever_order_they_come(said, ends):
    pieces = [piece(text, index=index) for index, text in said]
    found, _ = put_together(*pieces, *(piece("", index=index, reason="stop") for index in ends))
    assert [choice.index for choice in found] == [0, 1, 2, 3]
    for at, choice in enumerate(found):
        assert (choice.message.content or "") == "".join(text for index, text in said if index == at)
        assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")


def test_logprobs_stay_with_their_text_and_those_without_text_are_not_lost():
    entry = {"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}
    made = choices_of(piece("a", scored=[entry]), piece("", scored=[entry]), piece("", scored=[], reason="stop"))
    assert [choice["logprobs"] and choice["logprobs"]["content"] for choice in made] == [None, [entry], [entry], None]


def test_plain_completions_end_with_the_reason_alone_too():
    choices = TextChoices()
    made = [one for text, reason in (("a", None), ("b", "stop")) for one in choices.of(_text(text, reason))]
    assert [(one["text"], one["finish_reason"]) for one in made] == [("a", None), ("b", None), ("", "stop")]


def _text(text, reason):
    return {"text": text, "finish_reason": reason}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with (
        serving(MemoryKernel(), Config(tmp_path_factory.mktemp("home"))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("n", [1, 3])
def test_the_stream_helper_gives_the_same_as_a_whole_answer(client, n):
    asked = {"model": "smollm2", "messages": HELLO, "n": n, "seed": 3}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        fired = [event.type for event in stream]
    final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == [one.message.content for one in whole.choices]
    assert {choice.message.role for choice in final.choices} == {"assistant"}
    assert final.usage == whole.usage
    assert fired.count("content.done") == n


def test_usage_is_in_a_last_chunk_without_choices_only_where_asked_for(client):
    asked = {"model": "smollm2", "messages": HELLO, "stream": True}
    *others, last = client.chat.completions.create(**asked, stream_options={"include_usage": True})
    assert (last.choices, last.usage.total_tokens > 0) == ([], True)
    assert all(chunk.to_dict()["usage"] is None for chunk in others)
    assert not any("usage" in chunk.to_dict() for chunk in client.chat.completions.create(**asked))
    *others, last = client.completions.create(
        model="smollm2", prompt="once", stream=True, stream_options={"include_usage": True}
    )
    assert (last.choices, last.usage.total_tokens > 0) == ([], True)
    assert others[-1].choices[0].finish_reason == "stop"
