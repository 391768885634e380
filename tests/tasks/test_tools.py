"""Tools: what may be called is checked, told to the model, enforced, and read back from its text piece by piece."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.tasks import Rendered, Settings, task
from llmos.tasks.generate import Sampling, sampling
from llmos.tasks.text import quote_value
from llmos.tasks.tools import (
    CLOSE,
    OPEN,
    Tools,
    check_tools,
    is_call_at_end,
    read,
    tools_of,
    with_tool_rule,
    write_as_text,
)
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import PieceTokenizer

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Now", "parameters": CITY}}
TIME = {"type": "function", "function": {"name": "time"}}
CALLED = {"name": "weather", "arguments": {"city": "Oslo"}}
ASK = [{"role": "user", "content": "Rain in Oslo?"}]
KNOWN = tools_of(check_tools({"tools": [WEATHER, TIME]}), knows_tools=True)


def call(name="weather", arguments='{"city":"Oslo"}'):
    return f'{OPEN}\n{{"name": "{name}", "arguments": {arguments}}}\n{CLOSE}'


def test_a_checked_conversation_with_tools_is_checked_alike_again():
    data = {
        "messages": ASK,
        "tools": [WEATHER, TIME],
        "tool_choice": {"type": "function", "function": {"name": "time"}},
    }
    once = task("chat").check(data)
    assert task("chat").check(once) == once
    assert once["tools"][1]["function"]["parameters"]["properties"] == {}
    assert "tools" not in task("chat").check({**data, "tool_choice": "none"})


@pytest.mark.parametrize(
    ("said", "key", "detail"),
    [
        ({"tools": "weather"}, "tools", {"value": "'weather'"}),
        ({"tools": [TIME] * 129}, "tools", {"value": quote_value([TIME] * 129)}),
        ({"tools": [{"type": "function"}]}, "tools[0]", {"value": quote_value({"type": "function"})}),
        ({"tools": [{"type": "retrieval", "function": TIME["function"]}]}, "tools[0]", {"value": ...}),
        (
            {"tools": [{"function": {"name": "no spaces"}}]},
            "tools[0]",
            {"value": quote_value({"function": {"name": "no spaces"}})},
        ),
        ({"tools": [TIME, TIME]}, "tools[1].function.name", {"value": "'time'"}),
        ({"tools": [{"function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters", {"value": "[]"}),
        ({"tools": [TIME], "tool_choice": "must"}, "tool_choice", {"value": "'must'"}),
        (
            {"tools": [TIME], "tool_choice": {"function": {"name": "weather"}}},
            "tool_choice",
            {"value": "'weather'", "expected": ["time"]},
        ),
        ({"tool_choice": "required"}, "tool_choice", {"reason": "no_tools"}),
        ({"tools": [TIME], "parallel_tool_calls": "yes"}, "parallel_tool_calls", {"value": "'yes'"}),
    ],
)
def test_tools_that_cannot_be_are_refused_by_name(said, key, detail):
    with fails_with(BadInput, key=key, **detail):
        check_tools(said)


def test_who_must_call_and_how_often_is_what_was_chosen():
    def tools(knows_tools=False, **said):
        return tools_of(check_tools({"tools": [WEATHER, TIME], **said}), knows_tools=knows_tools)

    assert (tools().must, tools().many, list(tools().functions)) == (False, False, ["weather", "time"])
    assert tools(knows_tools=True).many
    assert not tools(knows_tools=True, parallel_tool_calls=False).many
    assert tools(tool_choice="required").must
    named = tools(knows_tools=True, tool_choice={"type": "function", "function": {"name": "time"}})
    assert (named.must, named.many, list(named.functions)) == (True, False, ["time"])
    assert tools_of(check_tools({}), knows_tools=True) is None


def test_a_template_without_tools_has_them_in_its_system_text_and_reads_text():
    history = [
        {"role": "system", "content": "Be brief."},
        *ASK,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": CALLED}],
        },
        {"role": "tool", "content": "rain"},
    ]
    plain = write_as_text(history, [WEATHER])
    assert [one["role"] for one in plain] == ["system", "user", "assistant", "user"]
    assert plain[0]["content"].startswith("Be brief.\n\nYou can call functions.")
    assert '"name":"weather"' in plain[0]["content"]
    assert plain[2]["content"] == f'{OPEN}\n{{"name":"weather","arguments":{{"city":"Oslo"}}}}\n{CLOSE}'
    assert plain[3]["content"] == "<tool_response>\nrain\n</tool_response>"
    assert write_as_text(ASK, [WEATHER])[0]["role"] == "system"
    assert write_as_text(ASK, ()) == ASK


def test_earlier_tool_calls_may_have_arguments_as_text_if_that_is_json():
    def said(arguments):
        function = {"name": "weather", "arguments": arguments}
        calls = [{"id": "call_1", "type": "function", "function": function}]
        answer = {"role": "assistant", "content": None, "tool_calls": calls}
        return {"messages": [*ASK, answer, {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]}

    message = task("chat").check(said('{"city": "Oslo"}'))["messages"][1]
    assert message["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    with fails_with(BadInput, at="messages[1]", value="'{city'"):
        task("chat").check(said("{city"))
    (rendered,) = task("chat").render([task("chat").check(said("{}"))], PieceTokenizer(), Settings((), {}, 500))
    assert rendered.context is None


def test_an_answer_without_content_can_be_sent_back():
    for rest in ({}, {"content": None}, {"content": None, "tool_calls": None, "refusal": None}):
        messages = [*ASK, {"role": "assistant", **rest}, *ASK]
        assert task("chat").check({"messages": messages})["messages"][1] == {"role": "assistant", "content": ""}
    with fails_with(BadInput, at="messages[0]", value="None"):
        task("chat").check({"messages": [{"role": "user", "content": None}]})


def test_calls_are_read_from_text_and_marks_of_calls_never_are_text():
    assert read(call(), KNOWN, is_over=True) == ("", [read(call(), KNOWN, is_over=True)[1][0]])
    said, calls = read(f"Let me see.\n{call()}\n{call('time', '{}')}", KNOWN, is_over=True)
    assert (said, [one.name for one in calls], calls[0].arguments) == (
        "Let me see.",
        ["weather", "time"],
        '{"city":"Oslo"}',
    )
    for text in (call("rm"), call(arguments="[]"), f"{OPEN}not json{CLOSE}"):
        assert read(text, KNOWN, is_over=True) == (text.removeprefix(OPEN).removesuffix(CLOSE), [])
    for cut in (call()[:-3], f"{OPEN} and no end", OPEN[:-1], OPEN[:6]):
        assert read(f"Well. {cut}", KNOWN, is_over=True) == ("Well.", [])
    for text in ("a < b", "a <"):
        assert read(text, KNOWN, is_over=True) == (text, [])


QUOTED = call(arguments=r'{"city": "a \\\" </tool_call> <tool_call>"}')


def test_a_mark_in_a_string_of_the_arguments_is_a_part_of_it():
    said, calls = read(f"Well.\n{QUOTED}\n{call()}", KNOWN, is_over=True)
    assert (said, [one.arguments for one in calls]) == (
        "Well.",
        [r'{"city":"a \\\" </tool_call> <tool_call>"}', '{"city":"Oslo"}'],
    )
    assert is_call_at_end(QUOTED)
    cut = QUOTED[: QUOTED.index(CLOSE) + len(CLOSE)]
    assert not is_call_at_end(cut)
    assert read(cut, KNOWN, is_over=False) == read(cut, KNOWN, is_over=True) == ("", [])


@settings(deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(
            [call(), call("time", "{}"), call("rm"), OPEN, CLOSE, "<tool", "text ", "\n", "a<b", '"', "\\", QUOTED]
        )
    ),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_a_growing_text_only_ever_adds_to_what_was_read(parts, cuts):
    text = "".join(parts)
    places = [*sorted(min(cut, len(text)) for cut in cuts), len(text)]
    seen = [read(text[:at], KNOWN, is_over=False) for at in places] + [read(text, KNOWN, is_over=True)]
    for (said, calls), (later, later_calls) in pairwise(seen):
        assert later.startswith(said)
        assert later_calls[: len(calls)] == calls


def test_a_streamed_answer_gives_each_call_once_and_the_same_text():
    text = f"Well.\n{call()}"
    rendered = Rendered([], KNOWN)
    pieces = []
    for at in range(len(text)):
        raw = {"text": text[at], "before": text[:at], "finish_reason": "stop" if at == len(text) - 1 else None}
        pieces.append(task("chat").parse(raw, rendered, Settings(), {}))
    assert "".join(one["message"]["content"] or "" for one in pieces) == "Well."
    (streamed,) = [made for one in pieces for made in one["message"].get("tool_calls", ())]
    whole = task("chat").parse({"text": text, "finish_reason": "stop"}, rendered, Settings(), {})
    (made,) = whole["message"]["tool_calls"]
    assert streamed["function"] == made["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert (streamed["index"], made["id"].startswith("call_")) == (0, True)
    assert (whole["finish_reason"], pieces[-1]["finish_reason"]) == ("tool_calls", "tool_calls")
    cut = task("chat").parse({"text": call()[:-3], "finish_reason": "length"}, rendered, Settings(), {})
    assert (cut["finish_reason"], cut["message"]["content"]) == ("length", None)
    second = task("chat").parse(
        {"text": call() + "\n" + call()[:-9], "finish_reason": "length"}, rendered, Settings(), {}
    )
    assert (second["finish_reason"], len(second["message"]["tool_calls"])) == ("length", 1)


def test_tools_and_a_rule_for_the_answer_go_together_where_both_can_be_kept():
    said = sampling({"json_schema": CITY})
    both = with_tool_rule(said, KNOWN).grammar
    assert "answer: %json" in both.text
    assert with_tool_rule(said, None) is said
    assert "answer" not in with_tool_rule(said, Tools(KNOWN.functions, must=True)).grammar.text
    with fails_with(BadInput, key="regex", reason="two_rules"):
        with_tool_rule(sampling({"regex": "a"}), KNOWN)
    wide = {"name": "f", "parameters": {"type": "object", "const": "x" * 100_000}}
    with fails_with(BadInput, key="tools", limit=100_000):
        with_tool_rule(Sampling(), Tools({"f": wide}))
    inlined = json.loads(with_tool_rule(Sampling(), KNOWN).grammar.text.split("a0: %json ")[1].split("\n")[0])
    assert inlined == CITY | {"additionalProperties": False, "x-guidance": inlined["x-guidance"]}


@pytest.mark.parametrize(("text", "content"), [(call()[:20], None), ("", ""), (f"Well. {call()[:20]}", "Well.")])
def test_what_a_stop_text_leaves_of_a_call_is_no_content(text, content):
    cut = task("chat").parse({"text": text, "finish_reason": "stop"}, Rendered([], KNOWN), Settings(), {})
    assert (cut["finish_reason"], cut["message"]["content"]) == ("stop", content)
