"""Rows of each family of tasks: what a digest says of them, what a split keeps together, what a dataset stores."""

from __future__ import annotations

import pytest

from llmos.abi.error import BadRow
from llmos.abi.task import trainable_tasks
from llmos.data.dataset import LoadedData
from llmos.data.families import rows_of
from llmos.data.row import LabelRow, PairRow, Row, SpanRow, TagRow, TextRow
from llmos.data.splits import Splits, group_of, key_of
from llmos.testing.errors import fails_with

LABEL = LabelRow({"text": "Hi"}, ("a",), "f", 1)
MULTI = LabelRow({"text": "Hi"}, ("a", "b"), "f", 1, is_multi=True)
TAGGED = TagRow({"tokens": ["Ada", "sat"]}, ("B-PER", "O"), "f", 1)
ANSWERED = SpanRow({"question": "Who?", "passage": "Ada sat"}, ("Ada",), (0,), "f", 1)
GRADED = PairRow({"query": "q", "documents": ["d"]}, 1.0, "f", 1)
SCORED = PairRow({"text": "t", "other": "o"}, 0.5, "f", 1)
WRITTEN = TextRow({"prompt": "Hi"}, "Ho", "f", 1)
SAID = TextRow({"messages": [{"role": "user", "content": "Hi"}]}, "", "f", 1, '{"role": "assistant"}')
DIGEST = "cef7dbb28f3a1d95e6faed221f9254b4c44cbfc8f956ca1b01694278892e095e"  # of these rows, in version 0.1


@pytest.mark.parametrize(
    ("row", "identity"),
    [
        (LABEL, "([('text', 'Hi')], 'a')"),
        (MULTI, "([('text', 'Hi')], ('a', 'b'))"),
        (TAGGED, "([('tokens', ['Ada', 'sat'])], ('B-PER', 'O'))"),
        (ANSWERED, "([('passage', 'Ada sat'), ('question', 'Who?')], Answers(texts=('Ada',), starts=(0,)))"),
        (GRADED, "([('documents', ['d']), ('query', 'q')], 1.0)"),
        (SCORED, "([('other', 'o'), ('text', 't')], 0.5)"),
        (WRITTEN, "([('prompt', 'Hi')], Written(text='Ho', message=''))"),
        (
            SAID,
            "([('messages', [{'role': 'user', 'content': 'Hi'}])], "
            "Written(text='', message='{\"role\": \"assistant\"}'))",
        ),
    ],
)
def test_the_digest_reads_rows_as_earlier_versions_did(row: Row, identity: str) -> None:
    """A checkpoint resumes only with data of the digest that it was written with."""
    assert row.identity == identity


def test_the_digest_of_rows_is_that_of_an_earlier_version() -> None:
    data = LoadedData(Splits((WRITTEN,), (SAID,), (ANSWERED,), ()), {}, ())
    assert data.digest() == DIGEST


@pytest.mark.parametrize(
    ("row", "group", "key"),
    [
        (LABEL, "hi", "hi"),
        (TAGGED, "ada sat", "ada sat"),
        (ANSWERED, "ada sat", "ada sat | who?"),
        (GRADED, "q", "q | d"),
        (SCORED, "t", "t | o"),
        (WRITTEN, "hi", "hi"),
        (SAID, "hi", "hi"),
    ],
)
def test_a_split_keeps_rows_together_by_the_text_that_they_share(row: Row, group: str, key: str) -> None:
    assert (group_of(row), key_of(row)) == (group, key)


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("classify", LABEL),
        ("tag", TAGGED),
        ("answer", ANSWERED),
        ("rerank", GRADED),
        ("similarity", SCORED),
        ("generate", WRITTEN),
        ("chat", SAID),
        ("summarize", TextRow({"text": "long"}, "short", "f", 1)),
        ("translate", TextRow({"text": "one"}, "eins", "f", 1)),
    ],
)
def test_a_stored_row_has_a_cell_for_every_column(task: str, row: Row) -> None:
    family = rows_of(task)
    assert len(family.stored_cells(task, row)) == len(family.stored_columns(task, {}))


def test_every_task_that_is_trained_has_rows_of_a_family() -> None:
    assert all(rows_of(task).stored_columns(task, {}) for task in trainable_tasks())


@pytest.mark.parametrize(
    ("task", "row", "labels", "value", "known"),
    [
        ("classify", LabelRow({"text": "x"}, ("c",), "f", 3), ("a", "b"), "c", ["a", "b"]),
        ("tag", TagRow({"tokens": ["x"]}, ("B-ORG",), "f", 3), ("O", "B-LOC", "I-LOC"), "ORG", ["LOC"]),
    ],
)
def test_a_row_whose_label_the_model_lacks_is_refused(
    task: str, row: Row, labels: tuple[str, ...], value: str, known: list[str]
) -> None:
    with fails_with(BadRow, file="f", line=3, kind="unknown_label", value=repr(value), expected=known):
        rows_of(task).refuse_unknown([row], labels)
