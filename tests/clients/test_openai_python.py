"""openai, the official Python client: parse and stream helpers, tools, embeddings, and its own exception classes."""

import asyncio

import openai
import pytest
from pydantic import BaseModel

from llmos.testing.errors import answers_with

HELLO = [{"role": "user", "content": "Say hello."}]
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather now", "parameters": CITY}}
STRICT = {
    "type": "function",
    "function": {"name": "weather", "strict": True, "parameters": {**CITY, "additionalProperties": False}},
}


class Pet(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0, timeout=server.timeout_s) as client:
        yield client


def test_a_chat_answers_with_usage(client):
    made = client.chat.completions.create(model="smollm2", messages=OSLO, max_tokens=12, temperature=0)
    assert made.choices[0].message.role == "assistant"
    assert made.choices[0].message.content
    assert made.choices[0].finish_reason in ("stop", "length")
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens


def test_the_stream_helper_ends_with_the_same_answer_as_a_plain_call(client):
    said = {"model": "smollm2", "messages": HELLO, "max_tokens": 100, "temperature": 0}
    plain = client.chat.completions.create(**said)
    with client.chat.completions.stream(**said, stream_options={"include_usage": True}) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    kinds = [event.type for event in events]
    assert kinds.count("content.done") == 1
    assert "".join(e.delta for e in events if e.type == "content.delta") == plain.choices[0].message.content
    assert final.choices[0].message.content == plain.choices[0].message.content
    assert final.choices[0].finish_reason == plain.choices[0].finish_reason
    assert final.usage == plain.usage


def test_the_role_is_said_once_and_the_end_in_a_chunk_of_its_own(client):
    chunks = list(client.chat.completions.create(model="smollm2", messages=OSLO, max_tokens=8, stream=True))
    assert [bool(one.choices[0].delta.role) for one in chunks] == [True, *[False] * (len(chunks) - 1)]
    assert chunks[-1].choices[0].finish_reason == "length"
    assert not chunks[-1].choices[0].delta.content
    assert all(one.choices[0].finish_reason is None for one in chunks[:-1])


def test_a_streamed_tool_call_comes_whole(client):
    said = {"model": "smollm2", "messages": OSLO, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 80}
    with client.chat.completions.stream(**said, temperature=0) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    assert [one.name for one in done] == ["weather"]
    call = final.choices[0].message.tool_calls[0]
    assert call.function.name == "weather"
    assert "city" in call.function.arguments
    assert final.choices[0].finish_reason == "tool_calls"


def test_parse_gives_the_class_asked_for(client):
    made = client.chat.completions.parse(
        model="smollm2",
        messages=[{"role": "user", "content": "A cat called Tom, 3 years old."}],
        response_format=Pet,
        max_tokens=60,
        temperature=0,
    )
    assert isinstance(made.choices[0].message.parsed, Pet)


def test_the_stream_helper_parses_as_well(client):
    with client.chat.completions.stream(
        model="smollm2",
        messages=[{"role": "user", "content": "A cat called Tom, 3 years old."}],
        response_format=Pet,
        max_tokens=60,
        temperature=0,
    ) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Pet)


def test_a_strict_tool_is_parsed(client):
    made = client.chat.completions.parse(
        model="smollm2", messages=OSLO, tools=[STRICT], tool_choice="required", max_tokens=80, temperature=0
    )
    assert "city" in made.choices[0].message.tool_calls[0].function.parsed_arguments


def test_embeddings_come_in_both_encodings(client):
    texts = ["a parcel", "an invoice"]
    packed = client.embeddings.create(model="minilm", input=texts)  # asks for base64 by itself
    plain = client.embeddings.create(model="minilm", input=texts, encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert len(one.embedding) == 384
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


def test_legacy_completions_answer_and_stream(client):
    said = {"model": "smollm2", "prompt": "Oslo is", "max_tokens": 6, "temperature": 0}
    plain = client.completions.create(**said)
    streamed = client.completions.create(**said, stream=True)
    assert "".join(one.choices[0].text for one in streamed) == plain.choices[0].text


def test_models_are_listed_and_found(client):
    names = [one.id for one in client.models.list()]
    assert names.index("smollm2") < names.index("smollm2:1")
    assert client.models.retrieve("smollm2").id == "smollm2"


@pytest.mark.parametrize("name", ["nothing", "org/nothing"])
def test_an_unknown_model_is_not_found(client, name):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=name, messages=OSLO)
    assert caught.value.code == "model_not_found"


def test_too_long_a_prompt_is_a_bad_request(client):
    long = [{"role": "user", "content": "word " * 12_000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="smollm2", messages=long)
    assert caught.value.code == "context_length_exceeded"


def test_an_empty_input_among_many_is_named(client):
    with answers_with(openai.BadRequestError, "bad_input", index=2):
        client.embeddings.create(model="minilm", input=["a", "b", "", "c"])


def test_hints_that_change_no_answer_are_let_through(client):
    made = client.chat.completions.create(
        model="smollm2",
        messages=OSLO,
        max_tokens=4,
        prompt_cache_key="k",
        safety_identifier="u",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        verbosity="low",
        reasoning_effort="low",
        user="u",
    )
    assert made.usage.completion_tokens <= 4


def test_the_asynchronous_client_streams_side_by_side(server):
    async def ask(client):
        async with client.chat.completions.stream(
            model="smollm2", messages=HELLO, max_tokens=100, temperature=0
        ) as stream:
            return (await stream.get_final_completion()).choices[0].message.content

    async def both():
        async with openai.AsyncOpenAI(
            base_url=server.v1, api_key="none", max_retries=0, timeout=server.timeout_s
        ) as client:
            return await asyncio.gather(ask(client), ask(client))

    one, other = asyncio.run(both())
    assert one == other


def test_a_stream_whose_process_is_killed_raises_that_after_what_came(client):
    stream = client.chat.completions.create(
        model="smollm2", messages=OSLO, max_tokens=4000, temperature=0, stream=True, logit_bias={"2": -100}
    )  # which never ends by itself: 2 is its end
    first = next(stream)
    assert first.choices[0].delta.role == "assistant"
    serving = next(
        one
        for one in client.get("/processes", cast_to=object)["data"]
        if one["spec"]["program"] == "serve" and one["spec"]["args"]["base"] == "smollm2:1" and one["state"] == "ready"
    )
    client.post(f"/processes/{serving['pid']}/kill", body={"force": True}, cast_to=object)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code in ("process_died", "cancelled", "unavailable")
    assert caught.value.body["message"] == caught.value.message


def test_a_text_is_moderated_by_the_labels_of_a_classifier(client):
    safe = {"safe_labels": ["delivery"]}
    made = client.moderations.create(model="tickets", input=["Where is my parcel?", "I paid twice"], extra_body=safe)
    assert [one.flagged for one in made.results] == [False, True]
    with pytest.raises(openai.BadRequestError) as caught:
        client.moderations.create(input="Where is my parcel?")
    assert caught.value.param == "model"
