"""What of a schema is enforced: what is kept, llguidance takes; what is left out is named; names are no keywords."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.tasks.schema import MAX_DEPTH, MAX_TOLD, Enforced, enforced, is_enforceable, told
from llmos.tasks.tools import checked, left_out, tools_of

PLAIN = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "uniqueItems": True}, ["uniqueItems"]),
        ({"type": "array", "uniqueItems": False}, []),
        ({"not": {"type": "string"}}, ["not"]),
        ({"type": "array", "contains": {"const": 1}, "minContains": 2}, ["contains"]),
        ({"if": {"type": "string"}, "then": {"minLength": 1}, "else": {}}, ["if"]),
        ({"then": {"type": "string"}}, []),
        ({**PLAIN, "propertyNames": {"pattern": "^a"}}, ["propertyNames"]),
        ({**PLAIN, "dependentRequired": {"a": ["b"]}}, ["dependentRequired"]),
        ({**PLAIN, "minProperties": 1}, []),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "minProperties": 1}, ["minProperties"]),
        ({**PLAIN, "properties": {"a": {}, "b": {}}, "maxProperties": 1}, ["maxProperties"]),
        ({**PLAIN, "maxProperties": 1, "additionalProperties": False}, []),
        ({"type": "string", "format": "email"}, []),
        ({"type": "string", "format": "color"}, ["format"]),
        ({"type": "integer", "format": "int32"}, []),
        ({"type": "string", "pattern": "^(?!x)a"}, ["pattern"]),
        ({"type": "object", "patternProperties": {"(?=a)": {}}}, ["patternProperties"]),
        ({"$ref": "https://example.com/schema.json"}, ["$ref"]),
        ({"$ref": "#/definitions/nowhere"}, ["$ref"]),
        ({"$ref": "#"}, ["$ref"]),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, ["$ref"]),
        ({"$defs": {"a": {"type": "string"}}, "items": {"$ref": "#/$defs/a"}}, []),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, []),
        ({"oneOf": [{"type": "string"}, {"minLength": 3}]}, ["oneOf"]),
        ({"$defs": {"deep": {"items": {"anyOf": [{"uniqueItems": True}]}}}}, ["uniqueItems"]),
        ({"unevaluatedProperties": False, **PLAIN}, []),
        ({"enum": [{"not": 1, "uniqueItems": True}], "default": {"if": 1}}, []),
        ({"properties": {"not": {}, "format": {}, "uniqueItems": {"type": "boolean"}}}, []),
        (PLAIN, []),
    ],
    ids=str,
)
def test_what_cannot_be_enforced_is_left_out_and_named(schema, words):
    assert sorted(enforced("k", schema).left_out) == words


def test_the_place_of_what_is_left_out_is_a_pointer_into_the_schema():
    found = enforced("k", {"properties": {"a/b": {"items": {"not": {}}}}})
    assert found.left_out == {"not": "#/properties/a~1b/items"}
    assert found.schema == {"properties": {"a/b": {"items": {}}}}


def test_closed_objects_allow_no_others_but_parts_of_one_another_do():
    def closed(schema):
        return enforced("k", schema, is_closed=True).schema

    assert closed(PLAIN)["additionalProperties"] is False
    assert closed({**PLAIN, "additionalProperties": True})["additionalProperties"] is True
    assert "additionalProperties" not in closed({"type": "object"})
    both = closed({"allOf": [PLAIN, {"properties": {"b": {}}}]})
    assert all("additionalProperties" not in one for one in both["allOf"])
    either = closed({"anyOf": [PLAIN, {"properties": {"b": {}}}]})
    assert all(one["additionalProperties"] is False for one in either["anyOf"])
    part = closed({"$defs": {"base": PLAIN}, "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {}}}]})
    assert "additionalProperties" not in part["$defs"]["base"]
    assert closed({"properties": {}, "required": ["z"]})["properties"] == {"z": {}}
    assert closed({"properties": {"p": PLAIN}})["properties"]["p"]["additionalProperties"] is False


@pytest.mark.parametrize("schema", [{"items": 5}, {"properties": {"a": []}}, {"anyOf": ["string"]}])
def test_what_is_no_schema_is_refused_by_its_place(schema):
    with pytest.raises(BadInput, match=r"k has .* at #/.*a schema is an object") as error:
        enforced("k", schema)
    assert error.value.detail["key"] == "k"


def test_a_schema_nested_too_deeply_is_refused():
    deep = {}
    for _ in range(MAX_DEPTH + 2):
        deep = {"items": deep}
    with pytest.raises(BadInput, match="nested more than"):
        enforced("k", deep)


def test_what_is_told_has_a_bound():
    long = {f"tools[{i}]": Enforced({}, {"not": "#"}) for i in range(200)}
    assert told({"a": Enforced({}, {}), "b": Enforced({}, {"not": "#", "if": "#"})}) == "b: if, not"
    assert len(told(long)) == MAX_TOLD


def test_a_strict_tool_that_cannot_be_enforced_names_itself_and_the_keyword_and_another_is_enforced_in_part():
    def tools(**said):
        parameters = {**PLAIN, "properties": {"a": {"type": "array", "uniqueItems": True}}}
        function = {"name": "f", "parameters": parameters, **said}
        return checked({"tools": [{"type": "function", "function": {"name": "g"}}, {"function": function}]})

    loose = tools()
    assert told(left_out(loose["tools"])) == "tools[1].function.parameters: uniqueItems"
    assert loose["tools"][1]["function"]["parameters"]["properties"]["a"]["uniqueItems"]  # the model is told all
    assert tools_of(loose, knows_tools=True).functions["f"]["parameters"]["additionalProperties"] is False
    assert checked(loose) == loose
    with pytest.raises(BadInput, match="uniqueItems at #/properties/a") as refused:
        tools(strict=True)
    assert refused.value.detail["key"] == "tools[1].function.parameters"


def schemas():
    names = st.sampled_from(["a", "b", "not", "format", "if"])
    leaf = st.one_of(
        st.builds(lambda kind: {"type": kind}, st.sampled_from(["string", "integer", "boolean", "null", "number"])),
        st.builds(lambda one: {"type": "string", "format": one}, st.sampled_from(["date", "email", "color", "regex"])),
        st.builds(
            lambda one: {"type": "string", "pattern": one}, st.sampled_from(["^a+$", "(?!x)", r"\bx", "[0-9]{3}"])
        ),
        st.builds(lambda one: {"$ref": one}, st.sampled_from(["#/$defs/x", "#", "#/$defs/none", "urn:x"])),
        st.just({"enum": [1, "a", {"not": 1}]}),
    )

    def larger(inner):
        objects = st.builds(
            lambda properties, extra: {"type": "object", "properties": properties, **extra},
            st.dictionaries(names, inner, max_size=3),
            st.sampled_from(
                [
                    {},
                    {"minProperties": 2},
                    {"maxProperties": 5},
                    {"propertyNames": {}},
                    {"patternProperties": {"^x": {}}},
                ]
            ),
        )
        lists = st.builds(
            lambda items, extra: {"type": "array", "items": items, **extra},
            inner,
            st.sampled_from([{}, {"uniqueItems": True}, {"contains": {}}, {"minItems": 1}]),
        )
        choices = st.builds(
            lambda word, some: {word: some},
            st.sampled_from(["anyOf", "oneOf"]),
            st.lists(inner, min_size=1, max_size=3),
        )
        return objects | lists | choices | st.builds(lambda one: {**one, "not": {"type": "null"}}, inner)

    return st.recursive(leaf, larger, max_leaves=8)


CONTRADICTION = ("Unsatisfiable", "empty")  # no matter of keywords: nothing fits the whole


@settings(deadline=None, max_examples=300)
@given(schema=schemas(), is_closed=st.booleans())
def test_what_is_kept_of_any_schema_llguidance_takes(schema, is_closed):
    llguidance = pytest.importorskip("llguidance")
    whole = {**schema, "$defs": {"x": {"type": "string", "not": {}}}}
    kept = enforced("k", whole, is_closed=is_closed)
    rule = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(kept.schema))
    error = llguidance.LLMatcher.validate_grammar(rule)
    assert not error or any(word in error for word in CONTRADICTION), (schema, kept, error)
    assert enforced("k", kept.schema) == Enforced(kept.schema, {})


# fmt: off
PIECES = [
    r"a", r"b+", r"[a-z]", r"\d", r"(?=a)", r"(?!b)", r"(?<=x)", r"(?<!x)", r"\b",
    r"\1", r"(a)", r"(?:b|c)", r"(?P<n>a)", r"(?<n>a)", r"(?i)", r"a++", r"(?>a)", r"{2,3}",
    r"^", r"$", r"[^a-z]", r"[]a]", r"[[:alpha:]]", r"\p{L}", r"\/", r"\-", r"\u0041",
    r"[\b]", r"[\w-]", r"\s", r"\S", r"\A", r"\Z", r"\t", r"\c", r"(",
    r"[", r")", r"a?", r"+", r"*", r"?", r"[a&&b]", r"[\d.]", r"é",
    r"\.", r"(?#c)", r"[z-a]", r"{", r"}", r"\0", r"\e", r"\v", r"\pL",
    r"\k<n>", r"(?s:.)", r"\<", r"\>", r"\q", r"~", r"&", r"[a-]", r"|",
]
# fmt: on


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join))
def test_a_pattern_that_is_called_enforceable_llguidance_takes(pattern):
    llguidance = pytest.importorskip("llguidance")
    if is_enforceable(pattern):
        rule = llguidance.LLMatcher.grammar_from_json_schema(json.dumps({"type": "string", "pattern": pattern}))
        error = llguidance.LLMatcher.validate_grammar(rule)
        assert not error or any(word in error for word in CONTRADICTION), (pattern, error)


@pytest.mark.parametrize("pattern", ["^[A-Z]{2}-[0-9]+$", r"^\d{4}|\w+$", "a{2,3}?", r"[^\s/]+", "(?:a|b)*", r"\p{L}+"])
def test_usual_patterns_are_enforceable(pattern):
    assert is_enforceable(pattern)
