"""Anthropic's Messages: translated to a chat and back, with errors in the names that the request has."""

import asyncio
import json

import pytest

ASKED = {"model": "smollm2", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
TOOL = {"name": "weather", "description": "The weather now", "input_schema": {"type": "object", "properties": {}}}


def events_of(answer):
    """The events of a stream, each by its name and data."""
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_an_answer_has_blocks_a_reason_and_usage(ask):
    answer = ask("POST", "/v1/messages", ASKED).json()
    said = {"messages": ASKED["messages"]}
    own = ask("POST", "/v1/tasks/chat", {"model": "smollm2", "input": said, "params": {"max_tokens": 5}}).json()
    assert answer["content"] == [{"type": "text", "text": own["outputs"][0]["message"]["content"]}]
    assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", "smollm2:1")
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("max_tokens", None)
    assert answer["usage"] == {"input_tokens": own["tokens"]["prompt"], "output_tokens": 5}


def test_a_stream_has_the_same_text_between_its_start_and_its_end(ask):
    whole = ask("POST", "/v1/messages", ASKED).json()
    events = events_of(ask("POST", "/v1/messages", {**ASKED, "stream": True}))
    assert all(name == data["type"] for name, data in events)
    names = [name for name, _ in events if name != "content_block_delta"]
    assert names == [
        "message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    text = "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta")
    assert text == whole["content"][0]["text"]
    (end,) = [data for name, data in events if name == "message_delta"]
    assert end["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert end["usage"] == whole["usage"]


def test_the_system_s_text_results_of_tools_and_blocks_become_messages(ask, kernel):
    conversation = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Is it raining?", "cache_control": {"type": "ephemeral"}}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    said = {"messages": conversation, "system": [{"type": "text", "text": "Be brief."}], "tools": [TOOL]}
    said |= {"stop_sequences": ["."], "top_k": 3, "metadata": {"user_id": "u"}, "thinking": {"type": "disabled"}}
    assert ask("POST", "/v1/messages", {**ASKED, **said}).status_code == 200
    (call,) = kernel.calls.asked
    (given,) = call.inputs
    function = {"name": "weather", "arguments": {"city": "Oslo"}}
    assert given["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it raining?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "a", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
        {"role": "user", "content": "And?"},
    ]
    assert given["tools"][0]["function"]["parameters"] == TOOL["input_schema"]
    assert call.params == {"top_k": 3, "max_tokens": 5, "stop": ["."]}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"anything": 1}, "anything"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"temperature": 9}, "temperature"),
        ({"tools": [{"type": "bash_20250124", "name": "bash", "input_schema": {}}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0]"),
        ({"messages": [*ASKED["messages"], {"role": "assistant", "content": "I"}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0]"),
        ({"system": "x", "messages": [{"role": "user", "content": None}]}, "messages[0]"),
    ],
)
def test_what_would_be_dropped_is_refused_in_their_shape_by_its_name(ask, change, key):
    refused = ask("POST", "/v1/messages", {**ASKED, **change})
    said = refused.json()
    assert refused.status_code == 400, said
    assert (said["type"], said["error"]["type"]) == ("error", "invalid_request_error")
    assert said["error"]["detail"]["key"].startswith(key)


def test_an_unknown_model_is_their_not_found(ask):
    refused = ask("POST", "/v1/messages", {**ASKED, "model": "nobody"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")


def test_a_schema_of_the_answer_is_a_rule(ask, kernel):
    wanted = {"format": {"type": "json_schema", "schema": {"type": "object", "uniqueItems": True}}, "effort": "low"}
    refused = ask("POST", "/v1/messages", {**ASKED, "output_config": wanted})  # the null engine follows no rule
    assert refused.status_code == 400
    assert kernel.calls.asked[-1].params["json_schema"]["type"] == "object"


def test_the_call_of_a_client_that_left_is_cancelled(kernel, leave):
    async def ask_and_leave():
        kernel.calls.gate = asyncio.Event()
        await leave(kernel, "POST", "/v1/messages", {**ASKED, "stream": True}, lambda: kernel.calls.asked)

    asyncio.run(ask_and_leave())
    assert kernel.calls.cancelled == [1]
