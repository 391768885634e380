"""The rule an answer follows, as a request says it."""

from __future__ import annotations

import pytest

from llmos.abi.error import BadInput
from llmos.tasks.generate import sampling
from llmos.tasks.grammar import Grammar, grammar_of
from llmos.testing.errors import fails_with


def test_each_rule_is_known_by_its_param():
    assert grammar_of({}) is None
    assert grammar_of({"regex": None}) is None
    assert grammar_of({"regex": "a+"}) == Grammar("regex", "a+")
    assert sampling({"grammar": 'start: "a"'}).grammar == Grammar("grammar", 'start: "a"')


def test_a_schema_s_properties_stay_in_their_order():
    schema = {"type": "object", "properties": {"z": {"type": "null"}, "a": {"type": "null"}}}
    text = grammar_of({"json_schema": schema}).text
    assert text.index('"z"') < text.index('"a"')


@pytest.mark.parametrize(
    ("params", "key", "detail"),
    [
        ({"json_schema": "object"}, "json_schema", {"value": "'object'"}),
        ({"json_schema": []}, "json_schema", {"value": "[]"}),
        ({"regex": ""}, "regex", {"value": "''"}),
        ({"grammar": 5}, "grammar", {"value": "5"}),
        ({"regex": "a", "grammar": "b"}, "grammar", {"reason": "two_rules"}),
        ({"regex": "a\ud800"}, "regex", {"reason": "surrogate", "at_character": 1}),
        ({"grammar": 'start: "\udfff"'}, "grammar", {"reason": "surrogate"}),
        ({"json_schema": {"enum": ["\ud83d"]}}, "json_schema", {"reason": "surrogate"}),
        ({"regex": "a" * 100_001}, "regex", {"limit": 100_000}),
    ],
)
def test_what_is_no_rule_is_refused_by_its_name(params, key, detail):
    with fails_with(BadInput, key=key, **detail):
        grammar_of(params)
