"""Rows without labels: read by their inputs alone, a split of their own, and below a labelled row of the same text."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadRow
from llmos.abi.model import DatasetManifest
from llmos.abi.recipe import UNLABELLED, Data
from llmos.data.dataset import gather
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.datasets.dataset_writer import DatasetWriter
from llmos.data.datasets.merging import plan_merge
from llmos.data.datasets.row_ids import row_id
from llmos.data.datasets.row_table import RowTable, table_of
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.exports.export import ExportedDataset
from llmos.data.exports.registry import EXPORTS, export_named
from llmos.data.reader import stream_rows
from llmos.data.row import LabelRow, TagRow
from llmos.testing.errors import fails_with

KEY = b"k" * 32


def read(path, task="classify", **how):
    stream = stream_rows(str(path), Data("", **how), task, {}, is_labelled=False)
    return list(stream), stream


def test_plain_text_is_a_row_for_each_line_that_is_not_blank(tmp_path):
    path = tmp_path / "raw.txt"
    path.write_text("Where is it, please?\n\n  Card lost; help  \n")
    rows, _ = read(path)
    assert [(row.input["text"], row.labels, row.line) for row in rows] == [
        ("Where is it, please?", (), 1),
        ("Card lost; help", (), 3),
    ]


def test_of_a_labelled_file_only_the_text_is_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label,source\nGood one,yes,web\nBad one,no,mail\n")
    rows, stream = read(path)
    assert [row.labels for row in rows] == [(), ()]
    assert set(stream.left_out()) == {"label", "source"}


def test_names_of_classes_are_of_the_labelled_file_alone(tmp_path):
    (tmp_path / "raw.txt").write_text("one\ntwo\n")
    named = Data("", class_names="no,yes")
    assert len(list(stream_rows(str(tmp_path / "raw.txt"), named, "classify", {}, is_labelled=False))) == 2


def test_a_column_is_taken_as_the_text_only_where_it_alone_holds_texts(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("1,Where is my card now?\n2,It was lost on the way.\n")
    rows, stream = read(path)
    assert [row.input["text"] for row in rows] == ["Where is my card now?", "It was lost on the way."]
    assert "'1'" in stream.reader.note
    path.write_text("Where is my card now?,It was lost on the way.\n")
    with fails_with(BadRow, column="text"):
        read(path)


@pytest.mark.parametrize("line", ['{"text": "Ada came."}', '{"tokens": ["Ada", "came", "."]}'])
def test_words_to_be_tagged_come_as_texts_or_tokens(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    (row,), _ = read(path, "tag")
    assert (row.input["tokens"], row.tags, row.kinds) == (["Ada", "came", "."], (), set())


@pytest.mark.parametrize("task", ["answer", "similarity", "generate"])
def test_rows_that_nobody_labels_afterwards_are_refused(tmp_path, task):
    path = tmp_path / "raw.txt"
    path.write_text("One\n")
    with fails_with(BadInput, key="unlabelled", task=task):
        read(path, task)


def dataset(folder, task, rows, options=None):
    with DatasetWriter(folder, task, options=options or {}) as writer:
        for split, row in rows:
            writer.add(split, StoredRow(row_id(KEY, row), row))
        written = writer.finish()
    manifest = DatasetManifest("d", 1, task, (), options=options or {}, splits=written.counts)
    return DatasetReader(folder, manifest), written


@pytest.mark.parametrize(
    ("task", "options", "row"),
    [
        ("classify", {}, LabelRow({"text": "a b"}, (), "f", 1)),
        ("classify", {"multi_label": True}, LabelRow({"text": "a b"}, (), "f", 1, True)),
        ("tag", {}, TagRow({"tokens": ["a", "b"]}, (), "f", 1)),
        ("tag", {}, TagRow({"tokens": ["a", "b"]}, (), "f", 1, "a  b", ())),
    ],
)
def test_a_stored_row_without_labels_comes_back_as_it_was(tmp_path, task, options, row):
    reader, written = dataset(tmp_path / "d", task, [(UNLABELLED, row)], options)
    (stored,) = reader.rows(UNLABELLED)
    assert stored.row == row
    assert (written.counts, written.labels, written.label_counts) == ({UNLABELLED: 1}, (), {})


def test_training_takes_no_unlabelled_rows(tmp_path):
    rows = [("train", LabelRow({"text": f"{label} {i}"}, (label,), "f", i)) for i in range(8) for label in ("a", "b")]
    dataset(tmp_path / "both", "classify", [*rows, (UNLABELLED, LabelRow({"text": "raw"}, (), "f", 1))])
    data = gather(Data("d@1"), "classify", {}, {"d@1": str(tmp_path / "both")}, key=KEY)
    assert sum(map(len, data.splits.by_name().values())) == len(rows)
    dataset(tmp_path / "raw", "classify", [(UNLABELLED, LabelRow({"text": "raw"}, (), "f", 1))])
    with fails_with(BadInput, split="train", expected=[UNLABELLED]):
        gather(Data("d@1"), "classify", {}, {"d@1": str(tmp_path / "raw")}, key=KEY)


def test_a_label_stands_before_the_same_row_without_one(tmp_path):
    one = LabelRow({"text": "one"}, (), "f", 1)
    raw, _ = dataset(
        tmp_path / "raw", "classify", [(UNLABELLED, one), (UNLABELLED, LabelRow({"text": "two"}, (), "f", 2))]
    )
    known, _ = dataset(tmp_path / "known", "classify", [("train", LabelRow({"text": "one"}, ("x",), "f", 1))])
    tables = [table_of(raw), table_of(known)]
    for order in (tables, tables[::-1]):
        plan = plan_merge(order, ["a@1", "b@1"])
        assert plan.conflict_count == 0
        by_table = dict(zip(map(id, order), plan.kept, strict=True))
        assert by_table[id(tables[0])].tolist() == [False, True]
        assert by_table[id(tables[1])].tolist() == [True]


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans()), min_size=1, max_size=12)


@given(st.lists(ROWS, min_size=1, max_size=3), st.sampled_from(["first", "last"]))
def test_a_merge_has_every_id_once_and_never_loses_a_label(parts, prefer):
    tables = []
    for rows in parts:
        once = {one[0]: one for one in rows}.values()
        ids = np.array([one[0] for one in once], np.uint64)
        contents = np.array([0 if one[2] else one[1] + 1 for one in once], np.uint64)
        splits = np.array([3 if one[2] else 0 for one in once], np.uint8)
        tables.append(RowTable(ids, contents, splits, {}))
    plan = plan_merge(tables, [f"d@{i}" for i in range(len(tables))], prefer)
    kept = [
        (int(i), int(s))
        for t, k in zip(tables, plan.kept, strict=True)
        for i, s in zip(t.ids[k], t.splits[k], strict=True)
    ]
    every = [(int(i), int(s)) for t in tables for i, s in zip(t.ids, t.splits, strict=True)]
    assert sorted(i for i, _ in kept) == sorted({i for i, _ in every})
    labelled = {i for i, s in every if s == 0}
    assert all(s == 0 for i, s in kept if i in labelled)


@pytest.mark.parametrize("form", [one.name for one in EXPORTS.values() if one.has_cells])
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_rows_without_labels_are_exported_and_read_again(tmp_path, task, form):
    one = (
        TagRow({"tokens": ["Ada", "is", "here"]}, (), "f", 1)
        if task == "tag"
        else LabelRow({"text": "Ada"}, (), "f", 1)
    )
    known = ExportedDataset(task)
    try:
        export = export_named(form, known, is_labelled=False)
    except BadInput:
        assert task == "tag"  # tables have no lists of words
        return
    path = tmp_path / f"out.{export.ending}"
    export.write(path, iter([StoredRow(row_id(KEY, one), one)]), known)
    (row,), _ = read(path, task)
    assert (row.input, row.kinds) == (one.input, set())


def test_a_format_that_must_have_labels_carries_no_row_without_one():
    with fails_with(BadInput, key="format", value="one-hot"):
        export_named("one-hot", ExportedDataset("classify"), is_labelled=False)


def test_json_shows_that_a_row_has_no_label(tmp_path):
    path = tmp_path / "out.jsonl"
    row = LabelRow({"text": "Ada"}, (), "f", 1)
    EXPORTS["jsonl"].write(path, iter([StoredRow(row_id(KEY, row), row)]), ExportedDataset("classify"))
    assert json.loads(path.read_text())["label"] is None
