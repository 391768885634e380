"""The official openai client against the real daemon with the real SmolLM2: rules, tools, logprobs, several answers."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from jsonschema import validate

pytestmark = pytest.mark.acceptance

TICKET = {
    "type": "object",
    "properties": {
        "topic": {"enum": ["billing", "delivery", "account", "other"]},
        "urgent": {"type": "boolean"},
        "summary": {"type": "string", "minLength": 1, "maxLength": 80},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
                "required": ["name", "count"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["topic", "urgent", "summary", "items"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": TICKET, "strict": True}}
THINGS = ("kettle", "invoice", "parcel", "password")
WANTS = ("My {} is broken", "Where is my {}?", "I was charged twice for a {}", "Write a poem about a {}", "{}" * 40)
PROMPTS = [want.replace("{}", thing) for thing in THINGS for want in WANTS]
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 30}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather now", "parameters": CITY}}
TIME = {"type": "function", "function": {"name": "time", "description": "The time now"}}
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]


@pytest.fixture(scope="module")
def client(smollm2):
    with openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0, timeout=300) as client:
        yield client


def asking(client):
    def ask(**said):
        return client.chat.completions.create(**{"model": "smollm2", "messages": OSLO, "seed": 1} | said)

    return ask


@pytest.fixture
def chat(client):
    return asking(client)


@pytest.fixture
def exact_chat(exact):
    """For answers that are compared: in bfloat16 others beside it, or a prompt found in the cache, may change one."""
    with openai.OpenAI(base_url=f"{exact.url}/v1", api_key="none", max_retries=0, timeout=300) as client:
        yield asking(client)


def test_twenty_prompts_under_one_schema_all_fit_it(client):
    assert len(set(PROMPTS)) == 20

    def ask(seed):
        messages = [
            {"role": "system", "content": "Write the customer's message as JSON with topic, urgent, summary, items."},
            {"role": "user", "content": PROMPTS[seed]},
        ]
        return client.chat.completions.create(
            model="smollm2", messages=messages, response_format=FORMAT, max_tokens=56, seed=seed
        )

    with ThreadPoolExecutor(20) as pool:  # all at once: the more rows a step has, the less it costs for each
        for done in pool.map(ask, range(20)):
            validate(json.loads(done.choices[0].message.content), TICKET)


def test_an_object_without_a_schema_streams_and_parses(chat):
    messages = [{"role": "user", "content": "Name three rivers, as JSON."}]
    pieces = list(chat(messages=messages, response_format={"type": "json_object"}, max_tokens=60, stream=True))
    assert isinstance(json.loads("".join(piece.choices[0].delta.content or "" for piece in pieces)), dict)
    assert pieces[-1].choices[0].finish_reason in ("stop", "length")
    assert len(pieces) > 3


def test_a_tool_is_called_with_arguments_that_fit_and_its_result_read(chat):
    (choice,) = chat(tools=[WEATHER, TIME], tool_choice="required", max_tokens=80).choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert call.function.name in ("weather", "time")
    named = {"type": "function", "function": {"name": "weather"}}
    (choice,) = chat(tools=[WEATHER, TIME], tool_choice=named, max_tokens=80, temperature=0).choices
    (call,) = choice.message.tool_calls
    validate(json.loads(call.function.arguments), CITY)
    assert "Oslo" in call.function.arguments
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "rain", "degrees": 7}'}
    (answer,) = chat(messages=[*OSLO, choice.message, result], tools=[WEATHER], tool_choice="none").choices
    assert answer.message.content


def test_who_may_call_may_talk_whole_or_streamed(exact_chat):
    said = {"messages": [{"role": "user", "content": "Say hello."}], "tools": [WEATHER], "max_tokens": 40}
    (whole,) = exact_chat(**said).choices
    pieces = [piece.choices[0] for piece in exact_chat(**said, stream=True)]
    assert "".join(piece.delta.content or "" for piece in pieces) == (whole.message.content or "")
    called = [one.function.name for piece in pieces for one in piece.delta.tool_calls or () if one.id]
    assert called == [one.function.name for one in whole.message.tool_calls or ()]
    assert pieces[-1].finish_reason == whole.finish_reason


def test_greedy_logprobs_are_the_likeliest_and_add_up_to_the_text(chat):
    (choice,) = chat(temperature=0, logprobs=True, top_logprobs=3, max_tokens=12).choices
    entries = choice.logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == choice.message.content
    for entry in entries:
        assert entry.top_logprobs[0].token == entry.token
        assert sum(math.exp(top.logprob) for top in entry.top_logprobs) <= 1 + 1e-5


def test_several_answers_are_those_of_as_many_calls(exact_chat):
    together = [choice.message.content for choice in exact_chat(n=3, seed=7, max_tokens=12).choices]
    alone = [exact_chat(seed=seed, max_tokens=12).choices[0].message.content for seed in (7, 8, 9)]
    assert together == alone
    assert len(set(together)) > 1


def test_more_tokens_than_fit_are_as_many_as_fit(chat):
    (choice,) = chat(max_tokens=100_000, stop=["."]).choices
    assert choice.finish_reason == "stop"


def test_what_cannot_be_asked_is_refused_and_the_next_call_answered(chat):
    for wrong in (
        {"logit_bias": {"49152": 1}},
        {"max_tokens": 0},
        {"stop": [str(i) for i in range(10_000)]},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "strict": True, "schema": {"type": "x"}},
            }
        },
        {"extra_body": {"json_schema": {"type": "string", "minLength": 2, "maxLength": 1}}},
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            chat(**wrong)
        assert refused.value.status_code in (400, 413)
    assert chat(max_tokens=2).choices
