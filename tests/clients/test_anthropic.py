"""anthropic, the official Python client: messages, streams, tools, and its own exception classes."""

import anthropic
import pytest

HELLO = [{"role": "user", "content": "Say hello."}]
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "The weather now", "input_schema": CITY}


@pytest.fixture(scope="module")
def client(server):
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=server.timeout_s) as client:
        yield client


def test_a_message_answers_with_usage(client):
    made = client.messages.create(
        model="smollm2",
        max_tokens=12,
        messages=HELLO,
        system="Be brief.",
        extra_body={"temperature": 0},
        metadata={"user_id": "u"},
    )
    assert made.content[0].text
    assert made.stop_reason in ("end_turn", "max_tokens")
    assert made.usage.input_tokens > 0
    assert 0 < made.usage.output_tokens <= 12


def test_tokens_are_counted_as_a_message_counts_them(client):
    said = {"model": "smollm2", "messages": HELLO, "system": "Be brief.", "tools": [WEATHER]}
    counted = client.messages.count_tokens(**said)
    made = client.messages.create(**said, max_tokens=1)
    assert counted.input_tokens == made.usage.input_tokens


def test_the_stream_helper_ends_with_the_same_message(client):
    said = {"model": "smollm2", "max_tokens": 40, "messages": HELLO, "extra_body": {"temperature": 0}}
    plain = client.messages.create(**said)
    with client.messages.stream(**said) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == plain.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (plain.stop_reason, plain.usage.output_tokens)
    assert final.usage.input_tokens == plain.usage.input_tokens


def test_the_stop_sequence_that_ended_an_answer_is_named(client):
    said = {"model": "smollm2", "max_tokens": 40, "messages": HELLO, "extra_body": {"temperature": 0}}
    word = client.messages.create(**said).content[0].text[2:5]
    made = client.messages.create(**said, stop_sequences=["#####", word])
    assert (made.stop_reason, made.stop_sequence) == ("stop_sequence", word)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_goes_back(client, stream):
    said = {"model": "smollm2", "max_tokens": 80, "extra_body": {"temperature": 0}, "tools": [WEATHER]}
    asked = {**said, "messages": OSLO, "tool_choice": {"type": "any"}}
    if stream:
        with client.messages.stream(**asked) as events:
            made = events.get_final_message()
    else:
        made = client.messages.create(**asked)
    call = made.content[-1]
    assert (made.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "weather")
    assert "city" in call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Rain, 4 degrees"}
    messages = [*OSLO, {"role": "assistant", "content": made.content}, {"role": "user", "content": [result]}]
    after = client.messages.create(**said, messages=messages, tool_choice={"type": "none"})
    assert after.content[0].type == "text"


def test_errors_are_its_own(client):
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="nothing", max_tokens=5, messages=HELLO)
    assert missing.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(
            model="smollm2", max_tokens=2000, messages=HELLO, thinking={"type": "enabled", "budget_tokens": 1024}
        )
    assert refused.value.body["error"]["detail"]["key"] == "thinking"


def test_a_stream_that_is_left_leaves_the_daemon_ready(client):
    said = {"model": "smollm2", "max_tokens": 4000, "messages": OSLO}
    with client.messages.create(**said, stream=True) as stream:
        assert next(iter(stream)).type == "message_start"
    assert client.messages.create(model="smollm2", max_tokens=2, messages=HELLO).content
