"""OpenAI's Responses: translated to a chat and back, and nothing is kept."""

import asyncio
import json

import pytest

ASKED = {"model": "smollm2", "max_output_tokens": 5, "input": "hello"}
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


def events_of(answer):
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block]
    return [json.loads(data.removeprefix("data: ")) for _, data in blocks]


def test_an_answer_is_a_message_with_a_status_and_usage(ask):
    answer = ask("POST", "/v1/responses", {**ASKED, "store": True, "metadata": {"a": "b"}, "user": "me"}).json()
    (item,) = answer["output"]
    said = {"messages": [{"role": "user", "content": "hello"}]}
    own = ask("POST", "/v1/tasks/chat", {"model": "smollm2", "input": said, "params": {"max_tokens": 5}}).json()
    assert item["content"][0]["text"] == own["outputs"][0]["message"]["content"]
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (own["tokens"]["prompt"], 5)
    assert answer["store"] is False


def test_a_stream_ends_with_the_whole_answer(ask):
    whole = ask("POST", "/v1/responses", ASKED).json()
    events = events_of(ask("POST", "/v1/responses", {**ASKED, "stream": True}))
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    kinds = [one["type"] for one in events if one["type"] != "response.output_text.delta"]
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    text = "".join(one["delta"] for one in events if one["type"] == "response.output_text.delta")
    assert text == whole["output"][0]["content"][0]["text"]
    last = events[-1]["response"]
    assert last["output"][0]["content"] == whole["output"][0]["content"]
    assert last["usage"] == whole["usage"]


def test_items_become_messages(ask, kernel):
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Is it raining?"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "rain"},
    ]
    said = {**ASKED, "input": items, "instructions": "Be brief.", "tools": [TOOL], "include": []}
    assert ask("POST", "/v1/responses", said).status_code == 200
    (given,) = kernel.calls.asked[0].inputs
    function = {"name": "weather", "arguments": "{}"}
    assert given["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it raining?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "a", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ]
    assert given["tools"][0]["function"]["name"] == "weather"


def test_log_probabilities_come_on_request(ask):
    said = {**ASKED, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    (part,) = ask("POST", "/v1/responses", said).json()["output"][0]["content"]
    assert len(part["logprobs"]) == 5
    assert len(part["logprobs"][0]["top_logprobs"]) == 2


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"anything": 1}, "anything"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0]"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
    ],
)
def test_what_would_be_dropped_is_refused_by_its_name(ask, change, key):
    refused = ask("POST", "/v1/responses", {**ASKED, **change})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, key)


def test_the_call_of_a_client_that_left_is_cancelled(kernel, leave):
    async def ask_and_leave():
        kernel.calls.gate = asyncio.Event()
        await leave(kernel, "POST", "/v1/responses", {**ASKED, "stream": True}, lambda: kernel.calls.asked)

    asyncio.run(ask_and_leave())
    assert kernel.calls.cancelled == [1]
