"""Noise keeps what a text says: it is deterministic, its edits fit, spans follow them, negations stay."""

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.data.lexicons import LEXICONS, NAME_GROUPS
from llmos.data.noise import (
    BY_WORDS,
    NOISES,
    Edit,
    apply,
    case,
    contraction,
    is_negation,
    move,
    name,
    number,
    outside,
    place,
    punctuation,
    replace_entries,
    sentence,
    strip_accents,
    typo,
    words_of,
)

WORDS = (
    "cancel", "order", "don't", "not", "never", "refund", "WX-461355", "Olga", "Tanaka", "Lisbon", "café", "I am",
    "you’re", "a.b@c.org", "https://x.org/a", "nothing", "strasse", "Straße", "12,345", "4711", "2024", "14:30", "退款",
    "我不想取消订单", "王秀英在北京", "e\u0301tude", "İvan", "ſharma", "ıs not",
)  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=8).map(" ".join)
KINDS = st.sampled_from(sorted(NOISES))
NEGATING = re.compile(r"\b(?:not|never|nothing|\w+n't)\b|不", re.IGNORECASE)


def noisy(text, kind="typo", seed=1, share=0.3, least=1):
    return apply(text, NOISES[kind](text, Random(seed), share, least))


@given(text=TEXTS, kind=KINDS, seed=st.integers(0, 9), share=st.sampled_from([0.0, 0.3, 1.0]))
def test_noise_is_deterministic_and_its_edits_are_in_order_and_change_something(text, kind, seed, share):
    edits = NOISES[kind](text, Random(seed), share, 1)
    assert edits == NOISES[kind](text, Random(seed), share, 1)
    assert not edits or apply(text, edits) != text


@given(text=TEXTS, kind=st.sampled_from(sorted(set(NOISES) - {"contraction"})), seed=st.integers(0, 9))
def test_every_negation_is_still_there_and_none_has_come(text, kind, seed):
    plain = noisy(text, kind, seed, share=1.0)
    assert [one.lower() for one in NEGATING.findall(plain)] == [one.lower() for one in NEGATING.findall(text)]


@given(text=TEXTS, kind=KINDS, seed=st.integers(0, 9), cut=st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_what_a_span_holds_moves_with_it_unless_it_is_edited_itself(text, kind, seed, cut):
    start, end = sorted(min(one, len(text)) for one in cut)
    edits = outside(NOISES[kind](text, Random(seed), 0.5, 1), [(start, end)])
    new_start, new_end = move(start, end, edits)
    assert apply(text, edits)[new_start:new_end] == text[start:end]


def test_a_span_that_is_edited_takes_the_edit_in():
    edits = [Edit(0, 4, "Amina"), Edit(5, 5, "X"), Edit(5, 11, "Li")]
    assert apply("Olga Tanaka left", edits) == "Amina XLi left"
    assert move(0, 11, edits) == (0, 9)
    assert move(5, 11, [Edit(3, 7, "--")]) == (3, 9)
    assert move(0, 5, [Edit(5, 5, "!")]) == (0, 5)
    assert move(5, 11, [Edit(5, 5, "!")]) == (6, 12)


def test_as_many_words_are_changed_as_the_share_says():
    text = " ".join(["kettles"] * 200)
    for kind in sorted(BY_WORDS - {"accents"}):
        assert len(NOISES[kind](text, Random(1), 0.1, 0)) == 20
    assert [len(typo("one kettle please", Random(seed), 0.0, 1)) for seed in range(5)] == [1] * 5
    assert typo("I am it", Random(1), 1.0, 1) == []  # no word is long enough


def test_addresses_numbers_and_negations_are_no_words_for_slips():
    text = "don't mail a.b@shop.org about WX-461355 at https://shop.org/a nor never unhappily"
    assert [word.text for word in words_of(text)] == ["mail", "about", "at", "unhappily"]
    assert noisy("unhappily", seed=3).startswith("un")
    assert all(is_negation(one) for one in ("Not", "NEVER", "isn’t", "没有"))


def test_contractions_go_both_ways_and_keep_the_negation():
    def flip(text):
        return apply(text, contraction(text, Random(1), 1.0, 1))

    assert flip("I do not want it, I am sure.") == "I don't want it, I'm sure."
    assert flip("DO NOT send it") == "DON'T send it"
    assert flip("We won’t pay and can't wait") == "We will not pay and cannot wait"
    assert flip("Don't you have my parcel?") == "Don't you have my parcel?"
    assert flip("I have a question") == "I have a question"
    assert flip("I have waited long") == "I've waited long"
    assert flip("Here I am.") == "Here I am."


def test_the_mark_at_the_end_is_left_out_or_added_and_a_comma_after_no_stays():
    def change(text):
        return apply(text, punctuation(text, Random(1), 1.0, 1))

    assert change("Where is it?!") == "Where is it"
    assert change("Hello, no, stop it.") == "Hello no, stop it"
    assert change("Where is it") == "Where is it."
    assert change("我要退款") == "我要退款。"
    assert change("???") == "???"


def test_names_and_places_are_replaced_by_their_like_wherever_they_stand():
    text = "Olga Tanaka met Ahmed; olga went to Lisbon. 王秀英在北京。"
    given_name, _, rest = apply(text, name(text, Random(4), 1.0, 1)).partition(" ")
    assert given_name in NAME_GROUPS[0]
    assert given_name != "Olga"
    assert f"; {given_name.lower()} went to Lisbon" in rest
    assert "Ahmed" not in rest
    assert "王秀英" not in rest
    moved = apply(text, place(text, Random(4), 1.0, 1))
    assert "Lisbon" not in moved
    assert "北京" not in moved
    assert moved.startswith("Olga Tanaka met Ahmed; olga went to ")
    assert replace_entries("no one is here", NAME_GROUPS, Random(1)) == []


def test_two_names_are_never_replaced_by_one():
    for seed in range(40):
        pair = apply("Ahmed Ivan", name("Ahmed Ivan", Random(seed), 1.0, 1)).split()
        assert len(set(pair)) == 2


def test_numbers_change_their_digits_but_years_dates_and_times_do_not():
    text = "order WX-461355 of 2024-05-12, 14:30, 2024: 4711 pieces, 12 left, no. 777"
    changed = apply(text, number(text, Random(1), 1.0, 1))
    assert changed != text
    assert re.sub(r"\d", "#", changed) == re.sub(r"\d", "#", text)
    for kept in ("2024-05-12", "14:30", "2024:", "12 left"):
        assert kept in changed
    for gone in ("461355", "4711", "777"):
        assert gone not in changed


def test_case_takes_whichever_changes_the_text():
    assert apply("ABC", case("ABC", Random(1), 1.0, 1)) == "abc"
    assert apply("abc", case("abc", Random(1), 1.0, 1)) == "ABC"
    assert case("订单", Random(1), 1.0, 1) == []
    assert noisy("Straße", "upper") == "STRASSE"


def test_accents_are_left_out_composed_or_not():
    for text in ("café", "cafe\u0301"):
        assert apply(text, strip_accents(text, Random(1), 1.0, 1)) == "cafe"
    assert noisy("kettle", "accents") != "kettle"


def test_a_sentence_is_added_in_the_script_of_the_text():
    for seed in range(8):
        added = apply("I want it", sentence("I want it", Random(seed), 1.0, 1))
        assert "I want it" in added
        assert added != "I want it"
        assert re.search(r"[\u4e00-\u9fff]", apply("Order 退款", sentence("退款", Random(seed), 1.0, 1)))
    assert sentence("  ", Random(1), 1.0, 1) == []


@pytest.mark.parametrize("slot", LEXICONS)
def test_lexicons_have_no_entry_twice(slot):
    entries = LEXICONS[slot]
    assert len({one.lower() for one in entries}) == len(entries) > 6
