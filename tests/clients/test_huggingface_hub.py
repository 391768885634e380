"""huggingface_hub: InferenceClient with a base_url."""

import json

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

HELLO = [{"role": "user", "content": "Say hello."}]
PET = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather now", "parameters": CITY}}


@pytest.fixture(scope="module")
def client(server):
    return InferenceClient(base_url=server.v1, api_key="none", timeout=server.timeout_s)


def said(**more):
    return {"model": "smollm2", "messages": HELLO, "max_tokens": 80, "temperature": 0} | more


def test_a_chat_answers_and_streams_the_same(client):
    made = client.chat_completion(**said())
    assert made.choices[0].message.content
    pieces = client.chat_completion(**said(stream=True))
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == made.choices[0].message.content


def test_a_tool_is_called(client):
    made = client.chat_completion(**said(tools=[WEATHER], tool_choice="required"))
    assert made.choices[0].message.tool_calls[0].function.name == "weather"


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "json_schema", "json_schema": {"name": "pet", "schema": PET}},
        {"type": "json_object", "value": PET},
    ],
    ids=["json_schema", "json_object"],
)
def test_an_answer_keeps_to_a_schema(client, asked):
    made = client.chat_completion(**said(response_format=asked))
    assert {"name", "age"} <= set(json.loads(made.choices[0].message.content))


def test_an_unknown_model_is_an_http_error(client):
    with pytest.raises(HfHubHTTPError) as refused:
        client.chat_completion(**said(model="nothing"))
    assert refused.value.response.status_code == 404
