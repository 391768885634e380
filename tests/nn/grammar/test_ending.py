"""The shortest end of an answer from where it stands, and keys that must not come twice."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

llguidance = pytest.importorskip("llguidance")

from llmos.nn.grammar.ending import shortest
from llmos.nn.grammar.keys import Keys
from llmos.tasks.grammar import SPACING


def matcher(schema, said=b""):
    text = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=SPACING)
    made = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), text, log_level=0)
    assert made.consume_tokens(list(said)) or not said, made.get_error()
    return made


def end(schema, said=b"", states=8000):
    return shortest(matcher(schema, said), Keys().after(said), states).end


def objects(**properties):
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "said", "expected"),
    [
        (objects(a={"type": "string"}, n={"type": "integer"}), b"", b'{"a": "", "n": 0}'),
        (objects(a={"type": "string"}, n={"type": "integer"}), b'{"a": "some', b'", "n": 0}'),
        (objects(m={"type": "string", "format": "email"}), b'{"m": "https%2F', b'@a"}'),
        (objects(d={"type": "string", "format": "date"}), b'{"d": "2026-02-', b'01"}'),
        (objects(p={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}), b'{"p": "K', b'A-000"}'),
        ({"anyOf": [objects(a={"type": "string", "minLength": 40}), objects(b={"type": "null"})]}, b"", b'{"b": null}'),
        ({"enum": ["x" * 30, "y"]}, b"", b'"y"'),
    ],
)
def test_an_end_is_the_shortest(schema, said, expected):
    assert end(schema, said) == expected


def test_a_recursive_schema_is_left_as_soon_as_may_be():
    node = objects(v={"type": "integer"}, next={"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]})
    schema = {"$ref": "#/$defs/n", "$defs": {"n": node}}
    assert end(schema, b'{"v": 1, "next": {"v": 2, "next": {') == b'"v": 0, "next": null}}}'


def test_no_key_comes_twice_where_several_must_come():
    said = end({"type": "object", "minProperties": 3, "additionalProperties": {"type": "boolean"}})
    pairs = json.loads(said, object_pairs_hook=list)
    assert len({key for key, _ in pairs}) == len(pairs) == 3


def test_where_there_is_no_end_and_where_the_search_is_given_up_there_is_none():
    lone = {"type": "object", "patternProperties": {"^x$": {}}, "minProperties": 2, "additionalProperties": False}
    assert shortest(matcher(lone), Keys(), 8000).end is None
    long = shortest(matcher({"type": "string", "minLength": 300}), Keys(), 10)
    assert (long.end, long.is_over) == (None, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(value=JSON, cut=st.integers(0, 200), is_ascii=st.booleans())
def test_json_without_a_key_twice_is_read_alike_in_any_pieces(value, cut, is_ascii):
    data = json.dumps(value, ensure_ascii=is_ascii).encode()
    whole = Keys().after(data)
    assert whole == Keys().after(data[:cut]).after(data[cut:])
    assert whole.opened == ()


@pytest.mark.parametrize(
    ("said", "is_twice"),
    [
        ('{"a": 1, "a"', True),
        ('{"a": 1, "\\u0061"', True),
        ('{"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]', False),
        ('{"a": "x\\", \\"a\\": 1", "b"', False),
        ('{"a": ["a", "a"], "ab"', False),
        ('{"é": 1, "é"', True),
    ],
)
def test_a_key_comes_twice_in_its_own_object_alone(said, is_twice):
    assert (Keys().after(said.encode()) is None) is is_twice
