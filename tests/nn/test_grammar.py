"""Answers that follow a grammar: whatever the logits say, and however few tokens are left, what comes out is valid."""

from __future__ import annotations

import json
import re

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from llmos.abi.error import BadInput  # noqa: E402
from llmos.nn.grammar import matcher  # noqa: E402
from llmos.nn.sampling import Sampler  # noqa: E402
from llmos.nn.tokenizer import FastTokenizer  # noqa: E402
from llmos.tasks.generate import Sampling, sampling  # noqa: E402
from llmos.testing import tiny  # noqa: E402

pytestmark = pytest.mark.torch

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}},
        "friend": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
ENDS = frozenset({tiny.SEP})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return FastTokenizer(tiny.write(tmp_path_factory.mktemp("models") / "llama", "llama"))


def answered(tokenizer, said, logits_of, most=200):
    """The text that these logits give under this rule, and why it ended."""
    rules = matcher(said.grammar, tokenizer, ENDS)
    sampler = Sampler(said, (), rules)
    made = []
    for step in range(most):
        token = sampler.choose(logits_of(step))
        if token in ENDS:
            return tokenizer.decode(made), "stop"
        made.append(token)
        if sampler.is_whole:
            return tokenizer.decode(made), "stop"
    return tokenizer.decode(made), "length"


def random_logits(seed):
    random = torch.Generator().manual_seed(seed)
    return lambda step: torch.randn(len(tiny.SPECIAL) + 256, generator=random) * 2


def fits(value):
    assert set(value) <= set(PERSON["properties"])
    assert isinstance(value["name"], str)
    assert type(value["age"]) is int
    assert value["age"] >= 0
    assert set(value.get("tags", ())) <= {"red", "green"}
    if value.get("friend"):
        fits(value["friend"])
    return True


@given(seed=st.integers(0, 10_000), most=st.integers(40, 200))
@settings(max_examples=25, deadline=None)
def test_a_schema_is_kept_to_by_random_logits_within_any_number_of_tokens_that_suffices(tokenizer, seed, most):
    said = sampling({"json_schema": PERSON, "max_tokens": most, "seed": seed, "temperature": 1})
    text, reason = answered(tokenizer, said, random_logits(seed), most)
    assert fits(json.loads(text))
    assert reason == "stop"


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_any_object_ends_in_time(tokenizer, seed):
    said = sampling({"json_schema": {"type": "object"}, "max_tokens": 60, "seed": seed, "temperature": 1})
    text, _ = answered(tokenizer, said, random_logits(seed), 60)
    assert isinstance(json.loads(text), dict)


def test_an_answer_that_had_to_be_ended_says_so_and_one_that_ended_by_itself_does_not(tokenizer):
    endless = torch.zeros(260)
    endless[tiny.tokenizer().token_to_id("a")] = 50.0  # never a quote, while there is a string
    said = sampling({"json_schema": PERSON, "max_tokens": 90, "temperature": 0})
    rules = matcher(said.grammar, tokenizer, ENDS)
    sampler = Sampler(said, (), rules)
    made = []
    while not sampler.is_whole and len(made) < 90:
        made.append(sampler.choose(endless))
    assert fits(json.loads(tokenizer.decode(made)))
    assert sampler.was_cut
    short = Sampler(Sampling(grammar=sampling({"regex": "yes|no"}).grammar, temperature=0), (), None)
    assert not short.was_cut


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_regex_and_a_grammar_are_kept_to(tokenizer, seed):
    said = sampling({"regex": r"[0-9]{3}-(abc|xyz)", "seed": seed, "temperature": 1})
    assert re.fullmatch(r"[0-9]{3}-(abc|xyz)", answered(tokenizer, said, random_logits(seed))[0])
    said = sampling({"grammar": 'start: ("la" " ")+ "end"', "seed": seed, "temperature": 1, "max_tokens": 100})
    text, reason = answered(tokenizer, said, random_logits(seed), 100)
    assert reason == "length" or re.fullmatch(r"(la )+end", text)


def test_what_may_end_and_cannot_go_on_in_time_ends(tokenizer):
    said = sampling({"regex": "a(bcdefgh)*", "max_tokens": 5, "temperature": 0})
    likes_b = torch.zeros(260)
    likes_b[tiny.tokenizer().token_to_id("b")] = 5.0
    assert answered(tokenizer, said, lambda step: likes_b, 5) == ("a", "stop")


def test_json_is_spaced_as_python_spaces_it(tokenizer):
    schema = {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": [1, 2]}}, "required": ["a", "b"]}
    said = sampling({"json_schema": schema | {"additionalProperties": False}, "temperature": 0})
    assert answered(tokenizer, said, lambda step: torch.zeros(260))[0] == '{"a": 1, "b": [1, 2]}'


@pytest.mark.parametrize(
    "params",
    [
        {"json_schema": {"type": "strin"}},
        {"json_schema": {"type": "object", "properties": []}},
        {"json_schema": {"type": "string", "minLength": 5, "maxLength": 2}},
        {"json_schema": {"enum": []}},
        {"json_schema": {"$ref": "#/definitions/nowhere"}},
        {"json_schema": {"$ref": "https://example.com/schema.json"}},
        {"json_schema": {"allOf": [{"type": "string"}, {"type": "number"}]}},
        {"json_schema": {"type": "array", "uniqueItems": True}},
        {"json_schema": {"type": "string", "pattern": "("}},
        {"json_schema": {"type": "string", "format": "nonsense"}},
        {"regex": "("},
        {"regex": r"(?=a)b"},
        {"regex": r"[^\s\S]"},
        {"grammar": "no start"},
        {"grammar": 'begin: "a"'},
        {"grammar": "start: start"},
        {"grammar": "start: missing"},
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_kept_to_is_a_sentence(tokenizer, params):
    with pytest.raises(BadInput, match=r"cannot be (kept to: .+|enforced)") as refused:
        matcher(sampling(params).grammar, tokenizer, ENDS)
    assert refused.value.detail["key"] in params


def nested(depth):
    return {"type": "object", "properties": {"a": nested(depth - 1)}} if depth else {"type": "null"}


@pytest.mark.parametrize(
    "rule",
    [
        {"json_schema": {"maxLength": 10**15, "type": "string"}},
        {"json_schema": nested(200)},
    ],
    ids=["long", "deep"],
)
def test_a_rule_that_is_too_large_is_a_sentence(tokenizer, rule):
    with pytest.raises(BadInput, match=r"json_schema (cannot be kept to|is nested more than)"):
        matcher(sampling(rule).grammar, tokenizer, ENDS)


def test_two_answers_under_one_rule_do_not_touch_each_other(tokenizer):
    said = sampling({"json_schema": PERSON})
    one, two = (matcher(said.grammar, tokenizer, ENDS) for _ in range(2))
    brace = tiny.tokenizer().token_to_id("{")
    one.take(brace, 100)
    assert two.masked(torch.zeros(260)).argmax() == brace
