"""Rules through the real daemon with the real SmolLM2: valid to their end, and none that ends who serves it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from jsonschema import FormatChecker, validate

from llmos.abi.process import State

pytestmark = pytest.mark.acceptance


def closed(**properties):
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


STRICT = {
    "email": closed(contact={"type": "string", "format": "email"}, age={"type": "integer"}),
    "date": closed(born={"type": "string", "format": "date"}, name={"type": "string"}),
    "pattern": closed(code={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}, more={"type": "string"}),
    "uuid": closed(id={"type": "string", "format": "uuid"}),
    "list": closed(links={"type": "array", "items": {"type": "string", "format": "hostname"}, "minItems": 2}),
}
PARCEL = closed(code={"type": "string"}, weight={"type": "number"})
TRACK = {"type": "function", "function": {"name": "track", "description": "Where a parcel is", "parameters": PARCEL}}
ASKED = [{"role": "user", "content": "Describe yourself at length, with all that you know of your contacts and dates."}]


def nested(letter: str) -> str:
    """Three thousand rules, each twice the next."""
    return "start: r0\n" + "\n".join(f'r{i}: r{i + 1} r{i + 1} | "{letter}"' for i in range(3000)) + '\nr3000: "a"\n'


BOMBS = [  # of each as many as are sent, no two alike: what was proven once is not tried again
    ("grammar", [{"grammar": nested(letter)} for letter in "abcde"]),
    ("regex", [{"regex": f"({letter}{{1000}}){{1000}}"} for letter in "ab"]),
    ("guided_grammar", [{"guided_grammar": nested(letter)} for letter in "fg"]),
    (
        "response_format",
        [{"response_format": {"type": "regex", "value": f"(({x}{{100}}){{100}}){{100}}"}} for x in "ab"],
    ),
]


@pytest.fixture(scope="module")
def client(smollm2):
    with openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0, timeout=300) as client:
        yield client


def asking(client):
    def ask(**said):
        defaults = {"model": "smollm2", "messages": ASKED, "seed": 3, "temperature": 0}
        return client.chat.completions.create(**defaults | said)

    return ask


@pytest.fixture
def chat(client):
    return asking(client)


@pytest.fixture
def exact_chat(exact):
    """For answers that are compared: in bfloat16 a prompt found in the cache may change one."""
    with openai.OpenAI(base_url=f"{exact.url}/v1", api_key="none", max_retries=0, timeout=300) as client:
        yield asking(client)


def formatted(schema):
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, "strict": True}}


def at_once(ask, asked):
    """The answers to all of these, written beside each other: a step for all costs little more than one."""
    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(ask, asked))


def least_of(refused):
    error = refused.value.body
    assert error["param"] == "max_tokens"
    return error["detail"]["least"]


def test_strings_with_a_format_or_pattern_end_validly_or_the_least_is_said(chat):
    asked = []
    for schema in STRICT.values():
        with pytest.raises(openai.BadRequestError) as refused:
            chat(response_format=formatted(schema), max_tokens=1)
        least = least_of(refused)
        asked += [(schema, least + more) for more in (0, 1, 30)]
    answers = at_once(lambda one: chat(response_format=formatted(one[0]), max_tokens=one[1]), asked)
    for (schema, _), answer in zip(asked, answers, strict=True):
        (choice,) = answer.choices
        validate(json.loads(choice.message.content), schema, format_checker=FormatChecker())
        assert choice.finish_reason == "stop"


def test_a_required_tool_call_is_whole_or_refused_and_never_content(exact_chat):
    chat, required = exact_chat, {"tools": [TRACK], "tool_choice": "required"}
    with pytest.raises(openai.BadRequestError) as refused:
        chat(**required, max_tokens=5)
    with pytest.raises(openai.BadRequestError) as refused_streamed:
        list(chat(**required, max_tokens=5, stream=True))
    least = least_of(refused)
    assert least_of(refused_streamed) == least > 5
    limits = (least, least + 20)
    wholes = at_once(lambda most: chat(**required, max_tokens=most), limits)
    streams = at_once(lambda most: list(chat(**required, max_tokens=most, stream=True)), limits)
    for whole, stream in zip(wholes, streams, strict=True):
        (choice,) = whole.choices
        (call,) = choice.message.tool_calls
        validate(json.loads(call.function.arguments), PARCEL)
        assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")
        pieces = [piece.choices[0] for piece in stream]
        parts = [part for piece in pieces for part in piece.delta.tool_calls or ()]
        arguments = "".join(part.function.arguments or "" for part in parts)
        assert arguments == call.function.arguments
        assert not any(piece.delta.content for piece in pieces)
        assert pieces[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize("most", [1, 8, 20])
def test_a_call_that_may_be_made_and_has_no_room_leaves_no_markup_whole_or_streamed(exact_chat, most):
    chat = exact_chat
    messages = [{"role": "user", "content": "Call track for the parcel K7. Answer with <tool_call> and nothing else."}]
    (choice,) = chat(messages=messages, tools=[TRACK], max_tokens=most).choices
    pieces = [one.choices[0] for one in chat(messages=messages, tools=[TRACK], max_tokens=most, stream=True)]
    streamed = "".join(piece.delta.content or "" for piece in pieces)
    assert (choice.message.content or "") == streamed
    assert not re.search(r"<tool|tool_call", streamed) or choice.message.tool_calls is None
    assert "<tool_call>" not in streamed


@pytest.mark.parametrize(("param", "bombs"), BOMBS, ids=[param for param, _ in BOMBS])
def test_rules_that_end_whoever_compiles_them_are_refused_and_nobody_beside_notices(smollm2, chat, param, bombs):
    def innocent(seed):
        return chat(messages=[{"role": "user", "content": "Say hello."}], seed=seed, max_tokens=8).choices[0]

    with smollm2.client() as box, ThreadPoolExecutor(4 + len(bombs)) as pool:
        innocent(0)
        before = serving(box)
        thrown = [pool.submit(chat, extra_body=bomb, max_tokens=8) for bomb in bombs]
        beside = [pool.submit(innocent, seed) for seed in range(4)]
        in_turn = []
        while not all(one.done() for one in thrown):
            in_turn.append(innocent(len(in_turn)))
        for bomb in thrown:
            error = bomb.exception()
            assert isinstance(error, openai.BadRequestError), error
            assert error.param == param
        answers = [*in_turn, *(one.result() for one in beside), innocent(5)]
        assert all(one.message.content for one in answers)
        after = serving(box)
        assert (after.pid, after.os_pid, after.restarts) == (before.pid, before.os_pid, before.restarts)


def serving(box):
    (one,) = [p for p in box.processes() if p.spec.title == "serve smollm2:1" and p.state is State.READY]
    return one
