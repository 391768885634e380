"""Rules in the shapes of OpenAI, Hugging Face and vLLM: each means one of our params, and two of them are refused."""

from __future__ import annotations

import pytest

from llmos.abi.error import BadInput
from llmos.api.openai_schemas import ChatRequest
from llmos.api.openai_unsupported import parse_supported
from llmos.api.rules import headers_of, naming_rule
from llmos.tasks.schema import describe_left_out
from llmos.testing.errors import fails_with

HELLO = [{"role": "user", "content": "hello"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
LOOSE = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}


def params_of(body):
    return body.params(body.rule())


def left_out_of(body):
    return body.left_out(body.rule())


def asked(**said):
    return parse_supported({"model": "m", "messages": HELLO, **said}, ChatRequest)


@pytest.mark.parametrize(
    ("said", "params"),
    [
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"json_schema": {"type": "object"}}),
        ({"response_format": {"type": "json_object", "schema": CITY}}, {"json_schema": CITY}),
        ({"response_format": {"type": "json_object", "value": CITY}}, {"json_schema": CITY}),
        ({"response_format": {"type": "json", "value": CITY}}, {"json_schema": CITY}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY}}},
            {"json_schema": CITY},
        ),
        ({"response_format": {"type": "json_schema", "value": {"name": "c", "schema": CITY}}}, {"json_schema": CITY}),
        ({"response_format": {"type": "regex", "value": "a+"}}, {"regex": "a+"}),
        ({"guided_json": CITY}, {"json_schema": CITY}),
        ({"guided_json": '{"type": "object"}'}, {"json_schema": {"type": "object"}}),
        ({"guided_regex": "a+"}, {"regex": "a+"}),
        ({"guided_choice": ["a.b", "c"]}, {"regex": r"a\.b|c"}),
        ({"guided_grammar": 'start: "a"'}, {"grammar": 'start: "a"'}),
        ({"guided_json_object": True, "guided_decoding_backend": "auto"}, {"json_schema": {"type": "object"}}),
        ({"structured_outputs": {"json": CITY}}, {"json_schema": CITY}),
        ({"structured_outputs": {"regex": "a", "disable_any_whitespace": True}}, {"regex": "a"}),
        ({"structured_outputs": {"choice": ["x"]}}, {"regex": "x"}),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, {"grammar": 'start: "a"'}),
        ({"structured_outputs": {"json_object": True}}, {"json_schema": {"type": "object"}}),
        ({"response_format": {"type": "text"}, "guided_regex": "a"}, {"regex": "a"}),
    ],
    ids=str,
)
def test_each_shape_means_the_param_that_it_means_elsewhere(said, params):
    assert params_of(asked(**said)) == params


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"guided_json": CITY, "guided_regex": "a"}, "guided_regex"),
        ({"response_format": {"type": "json_object"}, "guided_choice": ["a"]}, "guided_choice"),
        ({"regex": "a", "structured_outputs": {"json": CITY}}, "structured_outputs"),
        ({"structured_outputs": {"json": CITY, "regex": "a"}}, "structured_outputs"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "structural_tag": "x"}}, "structured_outputs"),
        ({"response_format": {"type": "json_object", "schema": CITY, "value": CITY}}, "response_format"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": [""]}, "guided_choice"),
        ({"guided_choice": ["x"] * 10_001}, "guided_choice"),
        ({"guided_choice": ["x" * 100_001]}, "guided_choice"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_whitespace_pattern": " ", "guided_json": CITY}, "guided_whitespace_pattern"),
        ({"guided_json": {"enum": ["x" * 100_001]}}, "guided_json"),
    ],
    ids=lambda one: str(one)[:60],
)
def test_what_contradicts_or_cannot_be_is_refused_by_its_name(said, key):
    with pytest.raises(BadInput) as refused:
        params_of(asked(**said))
    assert refused.value.detail["key"] == key


def test_what_cannot_be_enforced_is_refused_if_strict_else_named_in_a_header():
    def wrapped(**strict):
        return asked(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": LOOSE, **strict}})

    assert describe_left_out(left_out_of(wrapped())) == "response_format: uniqueItems"
    assert "uniqueItems" not in str(params_of(wrapped()))
    with fails_with(BadInput, key="response_format", keyword="uniqueItems", place="#/properties/tags"):
        params_of(wrapped(strict=True))
    tool = {"type": "function", "function": {"name": "f", "parameters": LOOSE}}
    both = left_out_of(asked(guided_json=LOOSE, tools=[tool]))
    said = "guided_json: uniqueItems; tools[0].function.parameters: uniqueItems"
    assert headers_of(both, "m:1") == [(b"x-llmos-not-enforced", said.encode())]
    assert headers_of(left_out_of(asked()), "m:1") == []


def test_an_error_about_a_rule_names_what_the_request_said():
    with pytest.raises(BadInput) as refused, naming_rule(asked(guided_regex="(").rule()):
        raise BadInput("no", key="regex")
    assert refused.value.detail["key"] == "guided_regex"
    with pytest.raises(BadInput) as other, naming_rule(asked(guided_regex="(").rule()):
        raise BadInput("no", key="stop")
    assert other.value.detail["key"] == "stop"
