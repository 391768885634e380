"""What of a schema is enforced: what is kept, llguidance takes; what is left out is named; names are no keywords."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.tasks.pattern import TOKEN, is_enforceable
from llmos.tasks.schema import MAX_DEPTH, MAX_TOLD, Enforced, describe_left_out, enforceable
from llmos.tasks.tools import check_tools, left_out, tools_of
from llmos.testing.errors import fails_with

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
    assert sorted(enforceable("k", schema).left_out) == words


def test_the_place_of_what_is_left_out_is_a_pointer_into_the_schema():
    found = enforceable("k", {"properties": {"a/b": {"items": {"not": {}}}}})
    assert found.left_out == {"not": "#/properties/a~1b/items"}
    assert found.schema == {"properties": {"a/b": {"items": {}}}}


def test_closed_objects_allow_no_others_but_parts_of_one_another_do():
    def closed(schema):
        return enforceable("k", schema, is_closed=True).schema

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


@pytest.mark.parametrize(
    ("schema", "place"),
    [({"items": 5}, "#/items"), ({"properties": {"a": []}}, "#/properties/a"), ({"anyOf": ["string"]}, "#/anyOf/0")],
)
def test_what_is_no_schema_is_refused_by_its_place(schema, place):
    with fails_with(BadInput, key="k", place=place):
        enforceable("k", schema)


def test_a_schema_nested_too_deeply_is_refused():
    deep = {}
    for _ in range(MAX_DEPTH + 2):
        deep = {"items": deep}
    with fails_with(BadInput, key="k", limit=MAX_DEPTH):
        enforceable("k", deep)


def test_what_is_told_has_a_bound():
    long = {f"tools[{i}]": Enforced({}, {"not": "#"}) for i in range(200)}
    assert describe_left_out({"a": Enforced({}, {}), "b": Enforced({}, {"not": "#", "if": "#"})}) == "b: if, not"
    assert len(describe_left_out(long)) == MAX_TOLD


def test_a_strict_tool_that_cannot_be_enforced_is_refused_by_name_and_keyword():
    def tools(**said):
        parameters = {**PLAIN, "properties": {"a": {"type": "array", "uniqueItems": True}}}
        function = {"name": "f", "parameters": parameters, **said}
        return check_tools({"tools": [{"type": "function", "function": {"name": "g"}}, {"function": function}]})

    loose = tools()
    assert describe_left_out(left_out(loose["tools"])) == "tools[1].function.parameters: uniqueItems"
    assert loose["tools"][1]["function"]["parameters"]["properties"]["a"]["uniqueItems"]  # the model is told all
    assert tools_of(loose, knows_tools=True).functions["f"]["parameters"]["additionalProperties"] is False
    assert check_tools(loose) == loose
    with fails_with(BadInput, key="tools[1].function.parameters", keyword="uniqueItems", place="#/properties/a"):
        tools(strict=True)


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


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(schema=schemas(), is_closed=st.booleans())
def test_what_is_kept_of_any_schema_llguidance_takes(schema, is_closed):
    llguidance = pytest.importorskip("llguidance")
    whole = {**schema, "$defs": {"x": {"type": "string", "not": {}}}}
    kept = enforceable("k", whole, is_closed=is_closed)
    rule = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(kept.schema))
    error = llguidance.LLMatcher.validate_grammar(rule)
    assert not error or any(word in error for word in CONTRADICTION), (schema, kept, error)
    assert enforceable("k", kept.schema) == Enforced(kept.schema, {})


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


@pytest.mark.slow
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


def tagged(count, **more):
    branches = [
        {"type": "object", "properties": {"kind": {"const": f"k{i}"}, "n": {"const": 1}}, "required": ["n", "kind"]}
        for i in range(count)
    ]
    return {"oneOf": branches + ([more] if more else [])}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (tagged(200), []),
        (tagged(200, **tagged(1)["oneOf"][0]), ["oneOf"]),
        ({"oneOf": [{"const": 1}, {"const": 1.0}]}, ["oneOf"]),
        ({"oneOf": [{"const": 1}, {"const": True}, {"const": "1"}, {"type": "null"}]}, []),
        ({"oneOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]}, ["oneOf"]),
        ({"oneOf": [{"enum": ["a"]}, {"type": "string"}]}, ["oneOf"]),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, ["maximum", "minimum"]),
        ({"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}, []),
        ({"type": "number", "maximum": 1e20, "minimum": 5e-324}, ["maximum", "minimum"]),
        ({"type": "number", "maximum": 1.79e308}, ["maximum"]),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.1}, []),
        ({"type": "number", "multipleOf": 1e300}, ["multipleOf"]),
        ({"type": "number", "multipleOf": 0.01}, []),
        ({"type": "string", "maxLength": 2**40}, ["maxLength"]),
        ({"type": "string", "maxLength": 5.0}, []),
        ({"type": "dict"}, ["type"]),
        (
            {"type": "object", "patternProperties": {"^a": {}, "b$": {}}, "additionalProperties": False},
            ["additionalProperties", "patternProperties"],
        ),
        ({"minimum": 3, "exclusiveMinimum": True, "exclusiveMaximum": False}, []),
        ({"$defs": {"a": {"$anchor": "x", "allOf": [{"$ref": "#x"}]}}, "$ref": "#/$defs/a"}, ["$ref"]),
        ({"x-more": {"not": {}}, "$ref": "#/x-more"}, ["$ref"]),
        ({"type": "string", "pattern": "a" * 20_000}, ["pattern"]),
        (
            {
                "$defs": {f"d{i}": {"properties": {"n": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(99)}
                | {"d99": {}},
                "$ref": "#/$defs/d0",
            },
            [],
        ),
    ],
    ids=lambda one: str(one)[:60],
)
def test_what_llguidance_cannot_count_or_tell_apart_is_left_out(schema, words):
    found = enforceable("k", schema)
    assert sorted(found.left_out) == words
    llguidance = pytest.importorskip("llguidance")
    rule = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(found.schema))
    assert not llguidance.LLMatcher.validate_grammar(rule)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("multipleOf", 0),
        ("minimum", "3"),
        ("pattern", 5),
        ("maxItems", -1),
        ("minLength", 1.5),
        ("enum", []),
        ("anyOf", []),
        ("required", [1]),
        ("exclusiveMaximum", []),
        ("multipleOf", True),
    ],
)
def test_a_keyword_s_own_fault_is_named_with_its_place(word, value):
    with fails_with(BadInput, key="k", keyword=word, place="#/items"):
        enforceable("k", {"items": {word: value}})


class Counted(dict):
    """A schema that counts how often somebody looks up something in one."""

    looks = 0

    def get(self, key, default=None):
        Counted.looks += 1
        return dict.get(self, key, default)

    def __getitem__(self, key):
        Counted.looks += 1
        return dict.__getitem__(self, key)


def looks_of(schema):
    def counted(node):
        if isinstance(node, dict):
            return Counted({key: counted(one) for key, one in node.items()})
        return [counted(one) for one in node] if isinstance(node, list) else node

    made, Counted.looks = counted(schema), 0
    enforceable("k", made, is_closed=True)
    return Counted.looks


@pytest.mark.parametrize(
    "of_size",
    [
        tagged,
        lambda n: {"oneOf": [{"const": i} for i in range(n)]},
        lambda n: {"items": {f"#{i}": 1 for i in range(n)}, "oneOf": [{"type": "object"}] * 2},
        lambda n: {"$defs": {"a": {}}, "anyOf": [{"$ref": "#/$defs/a", "type": "string"} for _ in range(n)]},
        lambda n: {
            "$defs": {f"d{i}": {"$ref": f"#/$defs/d{(i + 1) % n}", "type": "string"} for i in range(n)},
            "$ref": "#/$defs/d0",
        },
        lambda n: {"properties": {f"p{i}": {"$ref": "#" + "%41" * (i % 7), "type": "object"} for i in range(n)}},
        lambda n: {"allOf": [{"allOf": [{"properties": {f"p{i}": {}}}]} for i in range(n)]},
    ],
)
def test_twice_the_schema_is_twice_the_looks_at_it(of_size):
    once, twice = looks_of(of_size(150)), looks_of(of_size(300))
    assert twice <= 2.2 * once


def test_values_of_two_branches_are_compared_as_often_as_there_are_values():
    class Value(str):
        compared = 0

        def __eq__(self, other):
            Value.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    ones, twos = ([Value(f"{kind}{i}") for i in range(500)] for kind in "ab")
    assert not enforceable("k", {"oneOf": [{"enum": ones}, {"enum": twos}]}).left_out
    assert Value.compared <= 4 * 1_000


@given(st.lists(st.sampled_from(["[", "\\p{", "a|", "{1", "(", "[:a", "x"]), min_size=1, max_size=4))
def test_the_parts_of_a_pattern_are_its_whole_text(parts):
    pattern = "".join(parts)
    assert "".join(TOKEN.findall(pattern)) == pattern
