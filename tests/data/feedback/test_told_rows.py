"""What feedback becomes, by the family of its task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmos.abi.feedback import LEARNED, FeedbackRow
from llmos.data.feedback.told_rows import FAMILIES, in_place_of, told_family
from llmos.data.row import LabelRow, PreferenceRow, TagRow, TextRow, UnpairedRow

TOLD = FeedbackRow(7, 0.0, "m", "classify", {"text": "Ada lives in Paris."}, "label", "a", "t1")
SPANS = [{"start": 0, "end": 3, "label": "PER"}, {"start": 13, "end": 18, "label": "LOC"}]
ASKED = {"messages": [{"role": "user", "content": "Hello"}]}


def made(task, told, before=None, **options):
    return told_family(task).row_of(options, told, before)


def test_the_families_that_an_order_takes_are_those_that_have_rows():
    assert set(LEARNED) == set(FAMILIES)
    assert told_family("similarity") is None


def test_a_label_becomes_a_row_and_replaces_that_of_a_row_that_is_there():
    assert made("classify", TOLD) == LabelRow({"text": "Ada lives in Paris."}, ("a",), "feedback", 7)
    before = LabelRow({"text": "ADA lives in Paris."}, ("b",), "rows.csv", 3)
    assert in_place_of(before, made("classify", TOLD, before)) == replace(before, labels=("a",))


def test_spans_of_a_text_become_tags_of_its_words_and_stay_as_characters():
    row = made("tag", replace(TOLD, task="tag", value=SPANS))
    assert isinstance(row, TagRow)
    assert row.tags == ("B-PER", "O", "O", "B-LOC", "O")
    assert (row.text, row.spans) == ("Ada lives in Paris.", ((0, 3, "PER"), (13, 18, "LOC")))
    assert made("tag", replace(TOLD, task="tag", value=[])).tags == ("O",) * 5


def test_spans_of_words_count_characters_of_the_words_with_spaces_between():
    words = {"tokens": ["Ada", "lives", "in", "New", "York"]}
    told = replace(TOLD, task="tag", input=words, value=[{"start": 13, "end": 21, "label": "LOC"}])
    assert made("tag", told).tags == ("O", "O", "O", "B-LOC", "I-LOC")
    assert (made("tag", told).text, told_family("tag").labels_in(told.value)) == (None, ["LOC"])
    assert told_family("tag").known(("O", "B-LOC", "I-LOC", "B-PER", "I-PER")) == {"LOC", "PER"}


@pytest.mark.parametrize(
    ("form", "kind", "value", "answer", "expected"),
    [
        ("off", "text", "Good day", "Hi", TextRow(ASKED, "Good day", "feedback", 7)),
        ("off", "score", 1.0, "Hi", None),
        ("paired", "text", "Good day", "Hi", PreferenceRow(ASKED, "Good day", "feedback", 7, "", "Hi")),
        ("paired", "text", " Hi", "Hi", None),
        ("paired", "text", "Good day", None, None),
        ("paired", "score", 1.0, "Hi", None),
        ("unpaired", "text", "Good day", "Hi", UnpairedRow(ASKED, "Good day", "feedback", 7)),
        ("unpaired", "score", 0.75, "Hi", UnpairedRow(ASKED, "Hi", "feedback", 7, "", True)),
        ("unpaired", "score", 0.25, "Hi", UnpairedRow(ASKED, "Hi", "feedback", 7, "", False)),
        ("unpaired", "score", 4.0, "Hi", None),
        ("unpaired", "score", 0.75, None, None),
    ],
)
def test_a_text_and_a_rating_become_rows_of_the_form_that_the_model_learns(form, kind, value, answer, expected):
    told = replace(TOLD, task="chat", input=ASKED, kind=kind, value=value, answer=answer)
    assert made("chat", told, preferences=form) == expected
