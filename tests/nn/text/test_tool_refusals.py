"""Refusals of tools: each names the tool and where it stands in the request, and shows nothing of a grammar."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("llguidance")

from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.nn.grammar.matcher import matcher
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.tasks.generate import Sampling
from llmos.tasks.grammar import JSON_SCHEMA, Grammar
from llmos.tasks.tools import check_tools, tools_of, with_tool_rule
from llmos.testing import tiny

pytestmark = pytest.mark.torch

GOOD = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
MANY = [f"{i}x{i * 7919 % 10007}" for i in range(6000)]
SHOWN = ("%json", "x-guidance", "whitespace_flexible", "<tool_call>", "start:", "body:", "non-verbose")


def tool(name, parameters, **more):
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return FastTokenizer(tiny.write(tmp_path_factory.mktemp("models") / "llama", "llama"))


def refusal(tokenizer, tools, rule=None, **said):
    """What an engine says to these tools; None where it takes them."""
    try:
        known = tools_of(check_tools({"tools": tools, "tool_choice": "required", **said}), knows_tools=True)
        matcher(with_tool_rule(Sampling(grammar=rule), known).grammar, tokenizer, frozenset({3}))
    except BadInput as error:
        return error
    return None


def about(error):
    assert not [one for one in SHOWN if one in error.message], error.message
    return error.detail["key"]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"type": "object", "properties": {"a": {"type": 5}}}, "has type = 5 at #/properties/a; it must be a string"),
        ({"type": "object", "properties": {"a": {"minLength": "x"}}}, "has minLength = 'x' at #/properties/a"),
        ({"type": "object", "properties": {"a": {"enum": 5}}}, "has enum = 5 at #/properties/a; it must be a list"),
        ({"type": "object", "required": "a"}, "has required = 'a' at #; it must be a list of strings"),
        ({"type": "object", "additionalProperties": []}, "has [] at #/additionalProperties; a schema is an object"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "required property 'a' is unsatisfiable"),
        ({"type": "object", "properties": {"a": {"type": "number", "multipleOf": 0}}}, "multipleOf = 0 at"),
        (
            {"type": "object", "properties": {"a": {"additionalProperties": 5}}},
            "at #/properties/a/additionalProperties",
        ),
        ({"type": "object", "properties": {"a": {"enum": MANY}}, "required": ["a"]}, "too big"),
        ({"type": "array"}, "arguments are an object"),
        ("x", "it must be an object"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_parameters_that_cannot_be_kept_to_are_refused_by_their_tool_s_name(tokenizer, parameters, says, many):
    tools = [tool("weather", parameters)]
    if many:
        tools = [tool("time", GOOD), tool("day", GOOD), *tools, tool("night", GOOD)]
    error = refusal(tokenizer, tools)
    assert about(error) == f"tools[{len(tools) - 2 if many else 0}].function.parameters"
    assert error.message.startswith(f"{error.detail['key']} of weather ")
    assert says in error.message


def test_the_number_is_that_in_the_request_where_one_function_must_be_called(tokenizer):
    tools = [tool("time", GOOD), tool("weather", {"type": "object", "properties": {"a": {"enum": 5}}})]
    error = refusal(tokenizer, tools, tool_choice={"type": "function", "function": {"name": "weather"}})
    assert about(error) == "tools[1].function.parameters"


def test_a_strict_tool_is_refused_by_its_name_and_the_keyword(tokenizer):
    parameters = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    error = refusal(tokenizer, [tool("time", GOOD), tool("weather", parameters, strict=True)])
    assert about(error) == "tools[1].function.parameters"
    assert "of weather has uniqueItems at #/properties/a" in error.message


def test_a_tool_that_is_none_is_named_by_its_place(tokenizer):
    for wrong in ({"type": "function"}, tool("no spaces", GOOD), 7):
        assert about(refusal(tokenizer, [tool("time", GOOD), wrong])) == "tools[1]"
    assert about(refusal(tokenizer, [tool("time", GOOD), tool("time", GOOD)])) == "tools[1].function.name"
    assert about(refusal(tokenizer, [tool("time", GOOD, strict="yes")])) == "tools[0].function.strict"


def test_a_schema_beside_tools_is_refused_by_its_own_name(tokenizer):
    rule = Grammar(JSON_SCHEMA, '{"type":"number","multipleOf":0}')
    error = refusal(tokenizer, [tool("time", GOOD)], rule, tool_choice="auto")
    assert (about(error), error.message) == (JSON_SCHEMA, "The json_schema cannot be enforced: invalid multiple of")


WORDS = ("type", "enum", "required", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "items")
WORDS += ("additionalProperties", "multipleOf", "anyOf", "const", "format", "properties", "prefixItems", "$ref", "not")
ODD = st.sampled_from(
    (None, True, False, 0, -1, 3, 2.5, "", "a", "string", "object", "array", "#", "#/x", [], {}, ["a"], [{}], {"a": {}})
)
SCHEMAS = st.recursive(
    st.dictionaries(st.sampled_from(WORDS), ODD, max_size=3),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(("object", "array", ["object", "null"]))},
        optional={"properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2), "items": inner},
    ),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None)
@given(SCHEMAS, st.integers(0, 2), st.booleans())
def test_whatever_is_refused_of_a_tool_s_schema_is_refused_by_its_name(tokenizer, schema, at, strict):
    parameters = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    tools = [tool("time", GOOD), tool("day", GOOD)]
    tools.insert(at, tool("weather", parameters, strict=strict))
    error = refusal(tokenizer, tools)
    if error is not None:
        assert about(error) == f"tools[{at}].function.parameters"
        assert error.message.startswith(f"{error.detail['key']} of weather ")
