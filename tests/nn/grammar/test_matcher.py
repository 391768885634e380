"""Answers that follow a grammar: whatever the logits say, and however few tokens are left, what comes out is valid."""

from __future__ import annotations

import json
import re

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.nn.generation.sampling import Sampler
from llmos.nn.generation.sequence import Generation
from llmos.nn.grammar.matcher import matcher
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.tasks.generate import Sampling, sampling
from llmos.tasks.tools import Tools, read, with_tool_rule
from llmos.testing import tiny
from llmos.testing.errors import fails_with

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
def test_random_logits_keep_to_a_schema_within_any_number_of_tokens_that_suffices(tokenizer, seed, most):
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


def test_only_an_answer_that_had_to_be_ended_says_so(tokenizer):
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


def closed(**properties):
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def leaves():
    kinds = st.sampled_from(["string", "integer", "number", "boolean", "null"]).map(lambda kind: {"type": kind})
    formats = st.sampled_from(["date", "time", "email", "uuid", "ipv4"]).map(
        lambda one: {"type": "string", "format": one}
    )
    patterns = st.sampled_from(["^[A-Z]{3}-[0-9]+$", "^a{2,5}b$", "^(yes|no)$", "[0-9]"])
    sizes = st.integers(0, 6).map(lambda size: {"type": "string", "minLength": size})
    return st.one_of(
        kinds,
        formats,
        sizes,
        patterns.map(lambda one: {"type": "string", "pattern": one}),
        st.just({"enum": ["red", 7]}),
    )


def wider(inner):
    names = st.sampled_from(["a", "b", "long name"])
    objects = st.dictionaries(names, inner, max_size=3).map(lambda found: closed(**found))
    optional = st.dictionaries(names, inner, max_size=3).map(
        lambda found: {"type": "object", "properties": found, "required": [*found][:1]}
    )
    lists = st.builds(lambda one, size: {"type": "array", "items": one, "minItems": size}, inner, st.integers(0, 3))
    either = st.lists(inner, min_size=1, max_size=2).map(lambda some: {"anyOf": some})
    return objects | optional | lists | either


@given(schema=st.recursive(leaves(), wider, max_leaves=5), seed=st.integers(0, 10_000), more=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_an_answer_of_at_least_the_fewest_tokens_is_whole_and_fits_its_schema(tokenizer, schema, seed, more):
    jsonschema = pytest.importorskip("jsonschema")
    rule = matcher(sampling({"json_schema": schema}).grammar, tokenizer, ENDS)
    assert rule.least > 0
    said = sampling({"json_schema": schema, "max_tokens": rule.least + more, "seed": seed, "temperature": 1})
    text, _ = answered(tokenizer, said, random_logits(seed), rule.least + more)
    pairs = []
    value = json.loads(text, object_pairs_hook=lambda found: pairs.append(found) or dict(found))
    jsonschema.validate(value, schema)
    assert all(len({key for key, _ in found}) == len(found) for found in pairs)


def test_fewer_tokens_than_the_shortest_answer_has_are_refused_with_that_number(tokenizer):
    schema = closed(mail={"type": "string", "format": "email"}, n={"type": "integer"})
    text = '{"mail": "a@a", "n": 0}'
    with fails_with(BadInput, key="max_tokens", least=len(text)):
        Generation([5], sampling({"json_schema": schema, "max_tokens": 10}), tokenizer, ENDS, 500)


@pytest.mark.parametrize("most", [23, 24, 60])
def test_json_that_was_brought_to_its_end_stops(tokenizer, most):
    schema = closed(mail={"type": "string", "format": "email"}, n={"type": "integer"})
    likes_x = torch.zeros(260)
    likes_x[tiny.tokenizer().token_to_id("x")] = 50.0
    made = Generation(
        [5], sampling({"json_schema": schema, "max_tokens": most, "temperature": 0}), tokenizer, ENDS, 500
    )
    while made.finish_reason is None:
        made.advance(len(made.next_ids(10)), likes_x)
    assert made.finish_reason == "stop"
    assert json.loads(made.text)["n"] == 0
    assert len(made.made) <= most


def test_no_key_comes_twice_whatever_the_model_likes_best(tokenizer):
    likes = torch.zeros(260)
    for text, liking in {"a": 3.0, '"': 4.0, ":": 3.0, "1": 2.0, ",": 3.5}.items():
        likes[tiny.tokenizer().token_to_id(text)] = liking
    schema = {"type": "object", "additionalProperties": {"type": "integer", "maximum": 9, "minimum": 1}}
    text, _ = answered(
        tokenizer, sampling({"json_schema": schema, "max_tokens": 80, "temperature": 0}), lambda step: likes, 80
    )
    pairs = json.loads(text, object_pairs_hook=list)
    assert len(pairs) > 2
    assert len({key for key, _ in pairs}) == len(pairs)


def tool_rule(must, parameters=PERSON):
    known = Tools({"f": {"name": "f", "parameters": parameters}}, must=must)
    return with_tool_rule(sampling({}), known).grammar


@given(seed=st.integers(0, 10_000), more=st.integers(0, 30))
@settings(max_examples=20, deadline=None)
def test_a_call_that_must_be_made_is_whole_within_the_tokens_it_needs(tokenizer, seed, more):
    rule = matcher(tool_rule(must=True), tokenizer, ENDS)
    said = Sampling(seed=seed, temperature=1, max_tokens=rule.least + more, grammar=tool_rule(must=True))
    text, _ = answered(tokenizer, said, random_logits(seed), said.max_tokens)
    prose, calls = read(text, Tools({"f": {}}), is_over=True)
    assert (prose, [call.name for call in calls]) == ("", ["f"])
    assert fits(json.loads(calls[0].arguments))


def test_a_call_that_may_be_made_and_has_no_room_is_not_begun(tokenizer):
    wanted = tokenizer.encode(["Well. <tool_call>\n"], special=False)[0].ids
    prose = Generation([5], Sampling(grammar=tool_rule(must=False), temperature=0, max_tokens=30), tokenizer, ENDS, 500)
    for token in wanted:
        if prose.finish_reason is not None:
            break
        likes = torch.zeros(260)
        likes[token] = 50.0
        prose.advance(len(prose.next_ids(10)), likes)
    assert prose.finish_reason == "length"
    assert read(prose.text, Tools({"f": {}}), is_over=True) == ("Well.", [])


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
def test_a_rule_that_cannot_be_kept_to_is_refused_by_its_name(tokenizer, params):
    with fails_with(BadInput, key=next(iter(params))):
        matcher(sampling(params).grammar, tokenizer, ENDS)


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
def test_a_rule_that_is_too_large_is_refused_by_its_name(tokenizer, rule):
    with fails_with(BadInput, key="json_schema"):
        matcher(sampling(rule).grammar, tokenizer, ENDS)


def test_two_answers_under_one_rule_do_not_touch_each_other(tokenizer):
    said = sampling({"json_schema": PERSON})
    one, two = (matcher(said.grammar, tokenizer, ENDS) for _ in range(2))
    brace = tiny.tokenizer().token_to_id("{")
    one.take(brace, 100)
    assert two.mask(torch.zeros(260)).argmax() == brace
