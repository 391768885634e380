"""The rule an answer follows, as a request says it."""

from __future__ import annotations

import pytest

from llmos.abi.error import BadInput
from llmos.tasks.generate import sampling
from llmos.tasks.grammar import Grammar, grammar_of


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
    ("params", "says"),
    [
        ({"json_schema": "object"}, "it must be an object"),
        ({"json_schema": []}, "it must be an object"),
        ({"regex": ""}, "it must be a text"),
        ({"grammar": 5}, "it must be a text"),
        ({"regex": "a", "grammar": "b"}, "regex and grammar"),
        ({"regex": "a\ud800"}, "regex has half of a surrogate pair at character 1"),
        ({"grammar": 'start: "\udfff"'}, "grammar has half of a surrogate pair"),
        ({"json_schema": {"enum": ["\ud83d"]}}, "json_schema has half of a surrogate pair"),
        ({"regex": "a" * 100_001}, "100,001 characters; it may have 100,000"),
    ],
)
def test_what_is_no_rule_is_refused_with_an_example(params, says):
    with pytest.raises(BadInput, match=says) as refused:
        grammar_of(params)
    assert refused.value.detail["key"] in params
