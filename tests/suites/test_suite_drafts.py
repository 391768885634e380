"""A draft is a suite that can be run as it is, made of the most frequent rows and the changes that apply to them."""

import pytest

from llmos.abi.error import BadInput
from llmos.data.row import LabelRow, SpanRow, TagRow, TextRow
from llmos.suites.draft import draft_suite, frequent_first
from llmos.suites.plan import plan_of
from llmos.suites.reading import read_suite
from llmos.suites.result import run_plan
from llmos.tasks.tag import spans_of


def label_rows(*pairs):
    return [LabelRow({"text": text}, (label,), "rows.csv", i) for i, (text, label) in enumerate(pairs, 2)]


def test_rows_come_by_how_often_they_stand_and_then_by_usual_length():
    rows = label_rows(
        ("hi", "a"), ("where is it", "b"), ("where is my order", "b"), ("where is it", "b"), ("o" * 90, "b")
    )
    assert [row.texts[0][:17] for row in frequent_first(rows)] == ["where is it", "where is my order", "hi", "o" * 17]


def test_a_draft_of_labels_runs_as_it_is_and_tests_every_label():
    rows = label_rows(
        ('I don\'t want it: {cancel} #1 "now"', "cancel"),
        ("Cancel 'it', please", "cancel"),
        ("no", "no"),
        ("订单 4711 在哪里？\u200b", "where is it"),
    )
    text = draft_suite("classify", "support:3", rows, ("cancel", "no", "where is it"))
    read = read_suite(text, "draft.yaml")
    assert (read.model, read.task, [one.name for one in read.tests][:2]) == (
        "support", "classify", ["cancel: rows like these", "no: rows like these"],
    )  # fmt: skip
    by_text = {row.input["text"]: row.labels[0] for row in rows}
    plan = plan_of(read)
    asked = [plan.inputs[case.asked] for case in plan.cases if case.before is None]
    assert sorted(asked) == sorted(by_text)
    assert {case.how for case in plan.cases} == {"", "typo", "case", "punctuation", "contraction", "sentence", "number"}
    right = run_plan(plan, lambda inputs: [{"label": by_text.get(one, "x"), "scores": {}} for one in inputs], "m:1")
    assert [one.is_passed for one in right.tests] == [True, True, True, False]


def tag_row(text):
    words, tags = zip(*(one.rsplit("/", 1) for one in text.split()), strict=True)
    return TagRow({"tokens": list(words)}, tuple(tags), "rows.conll", 1)


def test_a_draft_of_tags_marks_the_spans_of_its_rows_and_swaps_mentions():
    rows = [
        tag_row("Olga/B-PERSON Petrova/I-PERSON paid/O $/O 12/B-SUM2 ,/O thanks/O {x}/O"),
        tag_row("Ask/O Ivan/B-PERSON ./O"),
    ]
    read = read_suite(draft_suite("tag", "ner:1", rows, ()), "draft.yaml")
    assert read.lexicons["person"] == ("Olga Petrova", "Ivan")
    assert read.lexicons["sum2_"] == ("12",)
    assert [one.name for one in read.tests] == [
        "finds PERSON", "finds any PERSON", "finds SUM2", "a change that says nothing",
    ]  # fmt: skip
    plan = plan_of(read)
    first = plan.cases[0]
    text = first.form.show()
    assert text in ("Olga Petrova paid $12, thanks {x}", "Ask Ivan.")
    found = {(one.label, text[one.start : one.end]) for one in first.form.marks}
    assert ("PERSON", "Olga Petrova") in found or ("PERSON", "Ivan") in found
    assert all(label in ("PERSON", "SUM2") for row in rows for label, _, _ in spans_of(row.tags))


def test_mentions_that_are_in_no_lexicon_are_not_swapped():
    rows = (
        [tag_row("Ask/O")] + [tag_row(f"N{i}/B-LOC met/O N{i}b/B-LOC") for i in range(12)] + [tag_row("Oslo/B-LOC")] * 2
    )
    plan_of(
        read_suite(draft_suite("tag", "ner:1", rows, ()), "draft.yaml")
    )  # which refuses a change that changes nothing


def test_a_draft_of_answers_has_a_test_for_each_question():
    rows = [
        SpanRow({"question": "Who? {", "passage": "Ada did."}, ("Ada", "Ada did"), (0, 0), "x.json", 1),
        SpanRow({"question": "When?", "passage": "Ada did."}, (), (), "x.json", 2),
    ]
    read = read_suite(draft_suite("answer", "qa:1", rows, ()), "draft.yaml")
    assert [one.expectation.is_none for one in read.tests[:2]] in ([True, False], [False, True])
    assert {"question": "Who? {", "passage": "Ada did."} in plan_of(read).inputs


def test_what_rows_cannot_say_is_not_drafted():
    with pytest.raises(BadInput):
        draft_suite("generate", "m:1", [TextRow({"prompt": "x"}, "y", "x.csv", 2)], ())
    with pytest.raises(BadInput):
        draft_suite("classify", "m:1", label_rows(("x" * 301, "a")), ("a",))
    with pytest.raises(BadInput):
        draft_suite("embed", "m:1", [], ())
