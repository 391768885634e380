"""The official openai client and a real engine with a tiny random model: whatever it babbles, rules are kept to."""

import json

import pytest

torch = pytest.importorskip("torch")

import openai
from openai.lib.streaming.chat import ChatCompletionStreamState

from llmos.abi.frame import ModelPath
from llmos.config import Config
from llmos.engines.pytorch import PyTorchEngine
from llmos.testing import tiny
from llmos.testing.errors import answers_with
from llmos.testing.kernel import MemoryKernel, manifest
from llmos.testing.server import serving

pytestmark = pytest.mark.torch

HELLO = [{"role": "user", "content": "hello"}]
SHORT = {"type": "string", "maxLength": 5}
CITY = {"type": "object", "properties": {"city": SHORT}, "required": ["city"], "additionalProperties": False}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "The weather now", "parameters": CITY}},
    {"type": "function", "function": {"name": "time"}},
]
KNOWING = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools> answer <tool_call>name, arguments</tool_call>{% endif %}"
    "{% if loud %}LOUD{{ loud }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}"
    "<assistant>"
)


def engine_of(folder, template=None):
    tiny.write(folder, "llama")
    for file, change in (("config.json", {"max_position_embeddings": 2048}), ("tokenizer_config.json", {})):
        about = json.loads((folder / file).read_text()) | change
        if template and "chat_template" in about:
            about["chat_template"] = template
        (folder / file).write_text(json.dumps(about))
    engine = PyTorchEngine()
    engine.load(ModelPath(manifest("smollm2", 1, "chat"), str(folder)), "cpu0", "float32", 0)
    return engine


@pytest.fixture(scope="module", params=["told in the system text", "told by the template"])
def client(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "llama"
    kernel = MemoryKernel(engine=engine_of(folder, KNOWING if "template" in request.param else None))
    with (
        serving(kernel, Config(tmp_path_factory.mktemp("home"))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.fixture
def chat(client):
    def ask(**said):
        asked = {"model": "smollm2", "messages": HELLO, "seed": 1, "temperature": 1, "max_tokens": 120}
        return client.chat.completions.create(**asked | said)

    return ask


def test_json_object_gives_an_object(chat):
    (choice,) = chat(response_format={"type": "json_object"}).choices
    assert isinstance(json.loads(choice.message.content), dict)


def test_a_schema_is_kept_to_by_each_of_several_answers_whole_and_streamed(chat):
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    texts = [choice.message.content for choice in chat(response_format=wanted, n=4).choices]
    assert all(set(json.loads(text)) == {"city"} for text in texts)
    assert len(set(texts)) > 1
    pieces = chat(response_format=wanted, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == texts[0]


def test_our_own_rules_are_params_of_both_routes(client, chat):
    assert chat(extra_body={"regex": "yes|no"}).choices[0].message.content in ("yes", "no")
    assert chat(extra_body={"grammar": 'start: "a" | "b"'}).choices[0].message.content in ("a", "b")
    made = client.completions.create(model="smollm2", prompt="x", extra_body={"json_schema": CITY}, max_tokens=90)
    assert set(json.loads(made.choices[0].text)) == {"city"}


@pytest.mark.parametrize(
    ("extra", "detail"),
    [
        ({"response_format": {"type": "yaml"}}, {"key": "response_format", "value": "'yaml'"}),
        ({"response_format": {"type": "json_schema"}}, {"key": "response_format", "reason": "no_schema"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}}},
            {"key": "response_format", "keyword": "type"},
        ),
        ({"response_format": {"type": "json_object"}, "extra_body": {"regex": "a"}}, {"reason": "two_rules"}),
        (
            {"response_format": {"type": "json_object"}, "extra_body": {"json_schema": CITY}},
            {"reason": "two_rules"},
        ),
        ({"extra_body": {"regex": "("}}, {"key": "regex"}),
        ({"extra_body": {"grammar": "nothing"}}, {"key": "grammar"}),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
            {"key": "tools[0].function.parameters"},
        ),
        ({"tools": TOOLS, "extra_body": {"regex": "a"}}, {"key": "regex", "reason": "two_rules"}),
    ],
)
def test_a_rule_that_cannot_be_kept_to_is_refused_and_the_engine_goes_on(chat, extra, detail):
    with answers_with(openai.BadRequestError, "bad_input", **detail):
        chat(**extra)
    assert chat(max_tokens=2).choices


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_must_be_made_is_made_with_arguments_that_fit(chat, choice, stream):
    for seed in range(4):
        said = chat(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, seed=seed, stream=stream)
        if stream:
            state = ChatCompletionStreamState()
            for event in said:
                state.handle_chunk(event)
            said = state.get_final_completion()
        (choice_made,) = said.choices
        assert choice_made.message.content is None
        (call,), reason = choice_made.message.tool_calls, choice_made.finish_reason
        assert (reason, call.type, call.id[:5]) == ("tool_calls", "function", "call_")
        arguments = json.loads(call.function.arguments)
        if call.function.name == "weather":
            assert set(arguments) == {"city"}
        else:
            assert (call.function.name, isinstance(choice, str), arguments) == ("time", True, {})


def test_a_model_that_may_call_may_also_talk(chat):
    (choice,) = chat(tools=TOOLS, max_tokens=20).choices
    assert choice.message.tool_calls or choice.message.content
    (silent,) = chat(tools=TOOLS, tool_choice="none", max_tokens=20).choices
    assert not silent.message.tool_calls


def test_the_call_and_what_came_of_it_are_part_of_the_conversation(chat):
    (choice,) = chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "weather"}}).choices
    (call,) = choice.message.tool_calls
    history = [*HELLO, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    done = chat(messages=history, tools=TOOLS, max_tokens=3)
    assert done.usage.prompt_tokens > chat(messages=history[:2], tools=TOOLS, max_tokens=3).usage.prompt_tokens
    assert chat(messages=history, max_tokens=3).choices


@pytest.mark.slow
def test_tools_and_a_schema_for_what_is_said_otherwise(chat):
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    for seed in range(4):
        (choice,) = chat(tools=TOOLS, response_format=wanted, seed=seed).choices
        assert choice.message.tool_calls or set(json.loads(choice.message.content)) == {"city"}


def test_a_chat_template_is_handed_what_the_call_says(client, chat):
    kwargs = {"chat_template_kwargs": {"loud": "x" * 9}}
    extra = chat(extra_body=kwargs, max_tokens=2).usage.prompt_tokens - chat(max_tokens=2).usage.prompt_tokens
    assert extra in (0, len("LOUD") + 9)  # of the two templates one reads it
    with answers_with(openai.BadRequestError, "bad_input", key="chat_template_kwargs.messages"):
        chat(extra_body={"chat_template_kwargs": {"messages": []}})
