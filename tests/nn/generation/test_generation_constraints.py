"""What a model's files rule of its answers: what is no rule is named, with its file."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from llmos.abi.error import BadInput
from llmos.nn.generation import generation_constraints
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("bad_words_ids", [7], "a list of lists of whole numbers"),
        ("bad_words_ids", [["7"]], "a list of lists of whole numbers"),
        ("bad_words_ids", 7, "a list of lists of whole numbers"),
        ("suppress_tokens", ["a"], "a list of whole numbers"),
        ("suppress_tokens", 5, "a list of whole numbers"),
        ("begin_suppress_tokens", {"a": 1}, "a list of whole numbers"),
        ("min_length", "long", "a whole number"),
        ("min_new_tokens", [3], "a whole number"),
        ("no_repeat_ngram_size", True, "a whole number"),
        ("decoder_start_token_id", "0", "a whole number or a list of such"),
        ("forced_bos_token_id", {}, "a whole number"),
        ("eos_token_id", ["2"], "a whole number or a list of such"),
    ],
)
@pytest.mark.parametrize("name", generation_constraints.FILES)
def test_what_is_no_rule_is_refused_by_file_and_name(tmp_path, name, key, value, expected):
    (tmp_path / name).write_text(json.dumps({key: value}))
    with fails_with(BadInput, file=name, key=key, expected=expected):
        generation_constraints.read_constraints(tmp_path)


def test_a_file_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "generation_config.json").write_text("[]")
    with fails_with(BadInput, file="generation_config.json"):
        generation_constraints.read_constraints(tmp_path)


def test_the_later_file_counts_and_tokens_that_are_not_there_are_left_out(tmp_path):
    never = [[3], [5, 6], [5, 400], [-1], [], [1]]
    told = {"suppress_tokens": [-1, 4, 400], "min_new_tokens": 2, "bad_words_ids": never}
    (tmp_path / "config.json").write_text(json.dumps({"min_new_tokens": 5, "decoder_start_token_id": [0]}))
    (tmp_path / "generation_config.json").write_text(json.dumps(told))
    said = generation_constraints.read_constraints(tmp_path)
    opening = generation_constraints.opening_of(said, "it")
    made = generation_constraints.rules_of(said, opening, frozenset({1}), 100)
    assert (opening, made.never, made.least) == ((0,), ((3,), (5, 6), (4,)), 3)
