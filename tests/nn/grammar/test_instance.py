"""A short instance of a rule: what it guesses, llguidance takes."""

from __future__ import annotations

import json

import pytest

llguidance = pytest.importorskip("llguidance")

from llmos.nn.grammar.grammar_text import text_of
from llmos.nn.grammar.instance import instance, of_pattern
from llmos.tasks.generate import Sampling
from llmos.tasks.grammar import SPACING, Grammar
from llmos.tasks.tools import check_tools, tools_of, with_tool_rule


def closed(**properties):
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def is_answer(grammar, text):
    made = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), text_of(grammar), log_level=0)
    return made.consume_tokens(list(text)) and (made.is_accepting() or made.is_stopped())


NODE = closed(v={"type": "integer"}, next={"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]})


@pytest.mark.parametrize(
    ("schema", "size"),
    [
        ({"type": "array", "items": {"type": "integer"}, "minItems": 500}, 1500),
        ({"type": "string", "minLength": 5000}, 5002),
        (
            closed(**{f"p{i}": {"anyOf": [{"type": "string", "minLength": 9}, {"type": "null"}]} for i in range(40)}),
            550,
        ),
        ({"type": "string", "pattern": r"^.{5,10}@.*\.com$"}, 12),
        ({"$ref": "#/$defs/n", "$defs": {"n": NODE}}, 22),
        ({"allOf": [{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}]}, 11),
        (closed(a={"type": "integer", "exclusiveMinimum": 500}, b={"type": "number", "maximum": -7}), 20),
        ({"enum": ["x" * 30, "é"]}, 4),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "boolean"}, "minItems": 3}, 18),
    ]
    + [({"type": "string", "format": one}, None) for one in ("date-time", "time", "duration", "ipv6", "uri", "uuid")],
)
def test_what_a_schema_asks_for_is_short_and_fits(schema, size):
    grammar = Grammar("json_schema", json.dumps(schema))
    found = instance(grammar)
    assert is_answer(grammar, found), found
    assert size is None or len(found) <= size
    assert json.dumps(json.loads(found), ensure_ascii=False).encode() == found, SPACING


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r".{5,10}@.*\.com", "aaaaa@.com"),
        ("(yes|no){3}", "nonono"),
        (r"[^a]{2}\d+(?:x|yy)?$", "000"),
        (r"(?<word>\w)-\S\W", "a-a."),
        ("[Ω-ώ]", "Ω"),
    ],
)
def test_what_a_pattern_asks_for_is_short_and_fits(pattern, expected):
    assert of_pattern(pattern) == expected
    assert is_answer(Grammar("regex", pattern), expected.encode())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("regex", r"\p{L}+"),
        ("regex", "("),
        ("regex", "(a{1000}){1000}"),
        ("regex", "(" * 5000 + ")" * 5000),
        ("grammar", 'start: "a"'),
        (
            "json_schema",
            '{"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 1}}}',
        ),
        ("json_schema", '{"type": "array", "items": {"type": "array", "minItems": 30000}, "minItems": 30000}'),
        ("json_schema", '{"anyOf": [false]}'),
    ],
)
def test_nothing_is_guessed_where_nothing_comes_to_mind_or_it_is_too_long(kind, text):
    assert instance(Grammar(kind, text)) is None


def test_references_that_double_are_looked_at_once_each():
    defs = {f"r{i}": {"anyOf": [{"$ref": f"#/$defs/r{i + 1}"}, {"$ref": f"#/$defs/r{i + 1}"}]} for i in range(60)}
    schema = {"$ref": "#/$defs/r0", "$defs": {**defs, "r60": {"type": "null"}}}
    assert instance(Grammar("json_schema", json.dumps(schema))) == b"null"


def test_the_shortest_call_of_several_tools_is_made():
    tools = [
        {
            "type": "function",
            "function": {"name": "long.one", "parameters": closed(a={"type": "string", "minLength": 900})},
        },
        {
            "type": "function",
            "function": {"name": "brief-2", "parameters": closed(b={"type": "string", "minLength": 9})},
        },
    ]
    asked = check_tools({"tools": tools, "tool_choice": "required"})
    grammar = with_tool_rule(Sampling(), tools_of(asked, knows_tools=False)).grammar
    found = instance(grammar)
    assert b'"name": "brief-2"' in found
    assert is_answer(grammar, found)
