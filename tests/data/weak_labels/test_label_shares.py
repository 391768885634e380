"""Soft labels of an answer's tokens: what a model that scores its tokens says of every label."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.data.weak_labels.label_shares import LEAST, label_in, label_shares, plain_label

LABELS = ("sports", "business", "sport news")
Tokens = list[tuple[str, float, dict[str, float]]]


@pytest.mark.parametrize("answer", ["sports", " Sports.", "Label: SPORTS", '{"label": "sports"}', "'sports'"])
def test_a_label_is_known_in_any_form(answer: str) -> None:
    assert label_in(answer, LABELS) == 0
    assert label_shares(answer, (), LABELS) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("answer", ["", "I cannot say", "sports or business", '{"class": "sports"}', "[1]"])
def test_what_is_no_label_has_no_shares(answer: str) -> None:
    assert label_shares(answer, [(answer, -0.1, {})], LABELS) is None


def test_tokens_that_were_not_taken_give_their_labels_what_they_are_worth() -> None:
    first = ("sport", math.log(0.6), {"sport": math.log(0.6), "bus": math.log(0.3), "I": math.log(0.1)})
    second = ("s", math.log(0.5), {"s": math.log(0.5), " news": math.log(0.5)})
    shares = label_shares("sports", [first, second], LABELS)
    assert shares == pytest.approx([0.3 / 0.9, 0.3 / 0.9, 0.3 / 0.9])


def test_a_label_inside_an_object_is_found_where_it_stands() -> None:
    before: Tokens = [('{"', -3.0, {}), ("label", -2.0, {}), ('":', -1.0, {})]
    inside = (' "b', math.log(0.8), {' "b': math.log(0.8), ' "s': math.log(0.2)})
    tokens = [*before, inside, ("usiness", 0.0, {}), ('"}', 0.0, {})]
    shares = label_shares('{"label": "business"}', tokens, LABELS)
    assert shares == pytest.approx([0.1, 0.8, 0.1])


words = st.lists(st.text("abc", min_size=1, max_size=5), min_size=2, max_size=6, unique=True)


@given(words, st.data())
def test_a_model_that_says_all_of_its_tokens_is_read_to_the_end(labels: Sequence[str], data: st.DataObject) -> None:
    """Letters as tokens, with a sign at the end: the shares are those that the letters were made of. Labels that part
    from the answer at one letter share what it has."""
    weights = data.draw(st.lists(st.floats(0.05, 1), min_size=len(labels), max_size=len(labels)))
    true = [one / sum(weights) for one in weights]
    answered = data.draw(st.sampled_from(range(len(labels))))
    tokens: Tokens = []
    for at, letter in enumerate(f"{labels[answered]}."):
        before = labels[answered][:at]
        mass: dict[str, float] = {}
        for label, share in zip(labels, true, strict=True):
            if label.startswith(before):
                mass.setdefault(f"{label}."[at], 0.0)
                mass[f"{label}."[at]] += share
        among = {token: math.log(one / sum(mass.values())) for token, one in mass.items()}
        tokens.append((letter, among[letter], among))
    found = label_shares(f"{labels[answered]}.", tokens, labels)
    assert found is not None
    assert _by_branch(labels, answered, found) == pytest.approx(_by_branch(labels, answered, true), abs=1e-4)


def _by_branch(labels: Sequence[str], answered: int, shares: Sequence[float]) -> dict[str, float]:
    """The sum of the shares of the labels that part from the answered one at the same letter."""
    sums: dict[str, float] = {}
    for label, share in zip(labels, shares, strict=True):
        letters = zip(f"{label}.", f"{labels[answered]}.", strict=False)
        alike = next((i for i, (mine, its) in enumerate(letters) if mine != its), len(label))
        branch = f"{label}."[: alike + 1]
        sums[branch] = sums.get(branch, 0.0) + share
    return sums


@given(
    st.text(max_size=20),
    st.lists(
        st.tuples(st.text(max_size=4), st.floats(-30, 0), st.dictionaries(st.text(max_size=4), st.floats(-30, 0))),
        max_size=6,
    ),
)
def test_shares_of_any_answer_sum_to_one_or_are_none(answer: str, tokens: Tokens) -> None:
    for said in (answer, json.dumps({"label": answer}), "sports"):
        shares = label_shares(said, tokens, LABELS)
        assert (shares is None) == (plain_label(_value(said)) not in LABELS)
        if shares is not None:
            assert sum(shares) == pytest.approx(1.0)
            assert min(shares) == 0.0 or min(shares) >= LEAST / 2


def _value(said: str) -> str:
    try:
        read = json.loads(said)
    except ValueError:
        return said
    return str(read["label"]) if isinstance(read, dict) and "label" in read else said
