"""Asking for labels: which rows are chosen, what answers are, and what becomes of a row that was answered."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.labelling import STRATEGIES, RowAnswer, read_answers
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.labelling.acquisition import choose_rows, margins, shortlist, some_sentences
from llmos.data.labelling.answers import ANSWERS, RowAnswers, agreement, with_label
from llmos.data.row import LabelRow, TagRow
from llmos.testing.errors import fails_with

TEXT = LabelRow({"text": "one"}, (), "f", 1)
WORDS = TagRow({"tokens": ["Ada", "is", "in", "New", "York"]}, (), "f", 1, "Ada is in  New York", ())


def drawn(count=40, size=6, labels=3, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, size)).astype(np.float32), generator.dirichlet(np.ones(labels), count)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("is_known", [True, False])
def test_every_strategy_chooses_each_row_once_and_the_same_by_its_seed(strategy, is_known):
    vectors, found = drawn()
    asked = [choose_rows(strategy, vectors, found if is_known else None, 15, seed) for seed in (1, 1)]
    assert len(set(asked[0].tolist())) == 15
    assert asked[0].tolist() == asked[1].tolist()
    assert sorted(choose_rows(strategy, vectors, found, 99, 1).tolist()) == list(range(40))


def test_margin_asks_for_the_rows_whose_two_likeliest_labels_are_nearest():
    vectors, found = drawn()
    chosen = choose_rows("margin", vectors, found, 10, 1)
    assert np.all(np.diff(margins(found)[chosen]) >= 0)
    assert margins(found)[chosen].max() <= np.delete(margins(found), chosen).min()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("is_known", [True, False])
def test_a_costly_model_is_asked_about_some_rows_the_least_certain_or_any(strategy, is_known):
    _, found = drawn()
    some = shortlist(strategy, found if is_known else None, 40, 12, 1).tolist()
    assert len(set(some)) == 12
    if is_known and strategy != "random":
        assert margins(found)[some].max() <= np.delete(margins(found), some).min()
    assert shortlist(strategy, found if is_known else None, 40, 40, 1).tolist() == list(range(40))


def test_of_many_sentences_to_tag_the_same_ones_are_looked_at_in_any_order():
    rows = [StoredRow(f"{at * 7 % 11}", WORDS) for at in range(11)]
    assert some_sentences("tag", rows, 4) == some_sentences("tag", rows[::-1], 4)
    assert [one.id for one in some_sentences("tag", rows, 4)] == sorted(one.id for one in rows)[:4]
    assert some_sentences("tag", rows, 11) == some_sentences("classify", rows, 4) == rows


@given(st.integers(0, 50))
def test_badge_takes_an_uncertain_row_first_and_no_copy_of_what_it_took(seed):
    vectors = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    found = np.tile(np.array([[0.99, 0.01], [0.55, 0.45], [0.55, 0.45]]), (4, 1))
    chosen = choose_rows("badge", vectors, found, 4, seed).tolist()
    assert chosen[0] % 3
    uncertain = [one // 3 for one in chosen if one % 3]
    assert len(set(uncertain)) == len(uncertain)


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=30), st.integers(1, 40))
def test_rows_that_are_all_alike_are_chosen_all_the_same(kinds, count):
    vectors = np.ones((len(kinds), 3), np.float32)
    chosen = choose_rows("badge", vectors, np.full((len(kinds), 2), 0.5), count, 1)
    assert len(set(chosen.tolist())) == min(count, len(kinds))


TEXTS = st.text(max_size=12)
ANSWER = st.builds(RowAnswer, TEXTS, st.none() | TEXTS | st.lists(TEXTS, max_size=3), TEXTS, TEXTS)


@given(st.lists(ANSWER, max_size=8))
def test_answers_are_read_as_they_were_written(answers):
    lines = [json.dumps(one.plain()) + "\n" for one in answers]
    assert list(read_answers(lines, "answers.jsonl")) == answers


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"value": "a"}', '{"id": 1, "value": "a"}', '{"id": "a"}', '{"id": "a", "value": 1, "by": 2}']
)
def test_a_line_that_is_no_answer_is_refused_by_its_number(line):
    with fails_with(BadInput, file="answers.jsonl", line=2):
        list(read_answers(['{"id": "a", "value": "b"}', line], "answers.jsonl"))


def stored(row=TEXT, **extra):
    return StoredRow("aa", row, extra)


def applied(*answers, row=None):
    made = RowAnswers()
    made.add(answers)
    return made.apply(row or stored())


def test_an_answer_labels_the_row_and_stays_beside_it():
    row = applied(RowAnswer("aa", " yes ", "ada", "sure?"), row=stored(source="web"))
    assert row.row.labels == ("yes",)
    assert row.extra == {"source": "web", "answers": [{"by": "ada", "value": " yes ", "comment": "sure?"}]}
    assert row.id == "aa"


def test_the_value_of_most_people_counts_and_the_earlier_in_a_tie():
    first = applied(RowAnswer("aa", "yes", "ada"), RowAnswer("aa", "no", "bob"))
    assert first.row.labels == ("yes",)
    again = applied(RowAnswer("aa", "no", "eve"), row=first)
    assert again.row.labels == ("no",)
    assert [one["by"] for one in again.extra["answers"]] == ["ada", "bob", "eve"]
    changed = applied(RowAnswer("aa", "yes", "eve"), row=again)
    assert changed.row.labels == ("yes",)
    assert len(changed.extra["answers"]) == 3


def test_a_row_that_everybody_passes_over_stays_without_a_label():
    assert applied(RowAnswer("aa", None, "ada")) is None
    assert applied(RowAnswer("aa", None, "ada"), RowAnswer("aa", "yes", "bob")).row.labels == ("yes",)


def test_a_comment_on_a_row_that_was_passed_over_is_kept_with_it():
    answers = RowAnswers()
    answers.add([RowAnswer("0", None, "ada", "which one?"), RowAnswer("1", None, "ada")])
    commented = answers.with_comments(StoredRow("0", TEXT))
    assert commented.extra[ANSWERS] == [{"by": "ada", "value": None, "comment": "which one?"}]
    assert commented.row == TEXT
    assert answers.with_comments(StoredRow("1", TEXT)) == StoredRow("1", TEXT)


def test_spans_of_words_become_tags_and_places_in_the_text():
    row = with_label(WORDS, [[3, 5, "LOC"], [0, 1, "PER"]])
    assert row.tags == ("B-PER", "O", "O", "B-LOC", "I-LOC")
    assert row.spans == ((0, 3, "PER"), (11, 19, "LOC"))
    assert with_label(WORDS, []).tags == ("O",) * 5


@pytest.mark.parametrize(
    ("row", "value"),
    [
        (TEXT, ""),
        (TEXT, 7),
        (TEXT, ["a", "b"]),
        (WORDS, "PER"),
        (WORDS, [[0, 6, "PER"]]),
        (WORDS, [[1, 1, "PER"]]),
        (WORDS, [[0, 2, "PER"], [1, 3, "LOC"]]),
        (WORDS, [[0, True, "PER"]]),
        (WORDS, [[0, 1, " "]]),
    ],
)
def test_a_value_that_the_row_cannot_have_is_refused(row, value):
    with fails_with(BadInput, key="value"):
        with_label(row, value)


def test_agreement_is_krippendorffs_alpha():
    found = agreement([["a", "a"], ["b", "b"], ["a", "b"], ["a"]])
    assert (found.rows, found.share) == (3, pytest.approx(2 / 3))
    # by the coincidence matrix: D_o = 2 of 6, D_e = (36 - 9 - 9) / 5 of 6
    assert found.alpha == pytest.approx(1 - 2 / 3.6)
    assert agreement([["a", "a"], ["a", "a"]]).alpha is None
    assert agreement([["a"], []]) == agreement([])


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=2, max_size=5), min_size=1, max_size=12))
def test_people_who_always_agree_have_an_alpha_of_one(rows):
    alike = agreement([[one[0]] * len(one) for one in rows])
    assert alike.share == 1.0
    assert alike.alpha in (None, 1.0)
    found = agreement(rows)
    assert found.alpha is None or found.alpha <= 1.0


def test_an_answer_that_everybody_takes_back_leaves_the_row_without_a_label():
    stored = StoredRow("0", TEXT)
    answers = RowAnswers()
    answers.add([RowAnswer("0", "a", "ada"), RowAnswer("0", None, "bob")])
    labelled = answers.apply(stored)
    assert labelled is not None
    answers = RowAnswers()
    answers.add([RowAnswer("0", None, "ada")])
    assert answers.apply(labelled) is None
    bare = answers.take_back(labelled)
    assert bare is not None
    assert (bare.row, [one["value"] for one in bare.extra[ANSWERS]]) == (TEXT, [None, None])
    tagged = RowAnswers()
    tagged.add([RowAnswer("0", [[0, 1, "PER"]], "ada")])
    words = tagged.apply(StoredRow("0", WORDS))
    assert words is not None
    back = answers.take_back(words)
    assert back is not None
    assert back.row == WORDS


def test_a_label_that_no_answer_gave_is_not_taken_back():
    answers = RowAnswers()
    answers.add([RowAnswer("0", None, "ada")])
    assert answers.take_back(StoredRow("0", LabelRow({"text": "one"}, ("a",), "f", 1))) is None
    assert answers.take_back(StoredRow("0", TEXT)) is None
