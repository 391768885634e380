"""ollama, the official Python client: chats, prompts, embeddings, models, and its error."""

from time import monotonic

import ollama
import pytest

HELLO = [{"role": "user", "content": "Say hello."}]
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]
CALM = {"temperature": 0, "num_predict": 30, "num_ctx": 2048}
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(host=server.url, timeout=server.timeout_s)


def test_a_chat_answers_and_streams_the_same(client):
    made = client.chat(model="smollm2", messages=HELLO, options=CALM, keep_alive="5m")
    pieces = list(client.chat(model="smollm2", messages=HELLO, options=CALM, stream=True))
    assert "".join(one.message.content for one in pieces) == made.message.content != ""
    assert (pieces[-1].done, pieces[-1].done_reason) == (True, made.done_reason)
    assert pieces[-1].eval_count == made.eval_count > 0
    assert made.prompt_eval_count > 0
    assert made.total_duration > 0


def test_a_prompt_answers_and_streams_the_same(client):
    said = {"model": "smollm2", "prompt": "Say hello.", "system": "Be brief.", "options": CALM}
    made = client.generate(**said)
    assert "".join(one.response for one in client.generate(**said, stream=True)) == made.response != ""
    raw = client.generate(model="smollm2", prompt="Oslo is", raw=True, options=CALM)
    assert raw.response


def test_a_schema_is_followed(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    made = client.chat(model="smollm2", messages=HELLO, options=CALM, format=schema)
    assert '"n"' in made.message.content


def test_tools_are_offered_and_results_go_back(client):
    function = {"name": "weather", "description": "The weather now", "parameters": CITY}
    calls = [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]
    messages = [
        *OSLO,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "rain", "tool_name": "weather"},
    ]
    tools = [{"type": "function", "function": function}]
    made = client.chat(model="smollm2", messages=messages, tools=tools, options=CALM)
    assert made.message.content or made.message.tool_calls


def test_embeddings_come_in_both_forms(client):
    made = client.embed(model="minilm", input=["a parcel", "an invoice"])
    assert [len(one) for one in made.embeddings] == [384, 384]
    assert client.embeddings(model="minilm", prompt="a parcel").embedding == pytest.approx(made.embeddings[0], abs=1e-6)


def test_models_are_listed_shown_and_seen_in_memory(client):
    assert {"minilm:1", "smollm2:1"} <= {one.model for one in client.list().models}
    client.embed(model="minilm", input="a parcel")
    assert "minilm:1" in {one.model for one in client.ps().models}
    assert "completion" in client.show("smollm2").capabilities


def test_a_model_is_loaded_and_unloaded_by_name_alone(client, server):
    assert client.generate(model="smollm2").done_reason == client.chat(model="smollm2").done_reason == "load"
    assert "smollm2:1" in {one.model for one in client.ps().models}
    assert client.generate(model="smollm2", keep_alive=0).done_reason == "unload"
    until = monotonic() + server.timeout_s
    while "smollm2:1" in {one.model for one in client.ps().models}:
        assert monotonic() < until, "it is still there"
    assert client.generate(model="smollm2", prompt="Say hello.", options=CALM).response


def test_errors_are_its_own(client):
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model="nothing", messages=HELLO)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError):
        client.chat(model="smollm2", messages=HELLO, think=True)
