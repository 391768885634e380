"""Stored datasets: what is written is read the same, ids survive, and datasets of earlier versions still read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.model import DatasetManifest
from llmos.abi.recipe import Data
from llmos.data.dataset import gather, keep
from llmos.data.dataset import test_rows as dataset_rows
from llmos.data.datasets.dataset_reader import DatasetReader, open_dataset
from llmos.data.datasets.dataset_writer import DatasetWriter
from llmos.data.datasets.occurrences import Occurrences
from llmos.data.datasets.row_ids import RowIds, row_id, text_id
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow, PairRow, SpanRow, TagRow, TextRow

KEY = b"k" * 32
WORD = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8)
TEXT = st.lists(WORD, min_size=1, max_size=5).map(" ".join)
LINE = st.integers(1, 10**9)
FILE = "rows.csv"


@st.composite
def tag_rows(draw: st.DrawFn) -> TagRow:
    tokens = draw(st.lists(WORD, min_size=1, max_size=5))
    tags = tuple(draw(st.sampled_from(["O", "B-PER"])) for _ in tokens)
    if draw(st.booleans()):
        return TagRow({"tokens": tokens}, tags, FILE, draw(LINE))
    return TagRow({"tokens": tokens}, tags, FILE, draw(LINE), " ".join(tokens), ((0, len(tokens[0]), "PER"),))


ROWS: dict[str, st.SearchStrategy[Any]] = {
    "classify": st.builds(lambda t, c, n: LabelRow({"text": t}, (c,), FILE, n), TEXT, WORD, LINE),
    "tag": tag_rows(),
    "answer": st.builds(
        lambda q, p, n: SpanRow({"question": q, "passage": p}, (p[:1],), (0,), FILE, n), TEXT, TEXT, LINE
    ),
    "rerank": st.builds(
        lambda a, b, s, n: PairRow({"query": a, "documents": [b]}, float(s), FILE, n),
        TEXT,
        TEXT,
        st.integers(0, 9),
        LINE,
    ),
    "similarity": st.builds(
        lambda a, b, s, n: PairRow({"text": a, "other": b}, s, FILE, n), TEXT, TEXT, st.floats(-1, 1), LINE
    ),
    "generate": st.builds(lambda a, b, n: TextRow({"prompt": a}, b, FILE, n), TEXT, TEXT, LINE),
    "summarize": st.builds(lambda a, b, n: TextRow({"text": a}, b, FILE, n), TEXT, TEXT, LINE),
    "chat": st.builds(
        lambda a, b, n: TextRow({"messages": [{"role": "user", "content": a}]}, b, FILE, n), TEXT, TEXT, LINE
    ),
}
EXTRA = st.dictionaries(
    WORD, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | st.lists(TEXT), max_size=3
)
ORIGIN = st.none() | st.just({"parents": ["0" * 16], "by": "swap"})


def write(folder: Path, task: str, rows: dict[str, list[StoredRow[Any]]], **options: Any) -> DatasetReader:
    with DatasetWriter(folder, task, options=options) as writer:
        for split, those in rows.items():
            for row in those:
                writer.add(split, row)
        written = writer.finish()
    return DatasetReader(folder, DatasetManifest("some", 1, task, (), written.counts, options=written.options))


@pytest.mark.parametrize("task", ROWS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_rows_of_every_family_are_read_as_they_were_written(tmp_path_factory, task: str, data: st.DataObject):
    rows = data.draw(st.lists(st.tuples(ROWS[task], EXTRA, ORIGIN), min_size=1, max_size=6))
    ids = RowIds(KEY).of([row for row, _, _ in rows])
    stored = [StoredRow(id, row, extra, origin) for id, (row, extra, origin) in zip(ids, rows, strict=True)]
    reader = write(tmp_path_factory.mktemp("set"), task, {"train": stored, "test": stored[:1]})
    assert reader.splits == ("train", "test")
    assert list(reader.rows("train")) == stored
    assert list(reader.rows("test")) == stored[:1]


def test_several_labels_are_read_as_several(tmp_path: Path):
    row = StoredRow("a" * 16, LabelRow({"text": "both"}, ("b", "a"), FILE, 1, True))
    reader = write(tmp_path, "classify", {"train": [row]}, multi_label=True)
    assert list(reader.rows("train")) == [row]
    assert open_dataset(tmp_path, "classify", {}).options == {"multi_label": True}
    with pytest.raises(BadInput):
        open_dataset(tmp_path, "classify", {"multi_label": False})


def test_a_dataset_of_another_task_is_refused(tmp_path: Path):
    write(tmp_path, "classify", {"train": [StoredRow("a" * 16, LabelRow({"text": "x"}, ("b",), FILE, 1))]})
    with pytest.raises(BadInput) as raised:
        open_dataset(tmp_path, "tag", {})
    assert raised.value.detail["has"] == "classify"


def test_equal_rows_give_equal_bytes_and_counts(tmp_path: Path):
    rows = [StoredRow(f"{i:016x}", LabelRow({"text": f"t {i}"}, ("ab"[i % 2],), FILE, i)) for i in range(100)]
    for name in ("one", "two"):
        with DatasetWriter(tmp_path / name, "classify") as writer:
            for row in rows:
                writer.add("train", row)
            written = writer.finish()
    assert (tmp_path / "one/train.parquet").read_bytes() == (tmp_path / "two/train.parquet").read_bytes()
    assert written.counts == {"train": 100}
    assert written.label_counts == {"train": {"a": 50, "b": 50}}
    assert written.labels == ("a", "b")


def test_a_dataset_without_rows_is_none(tmp_path: Path):
    with pytest.raises(BadInput), DatasetWriter(tmp_path, "classify") as writer:
        writer.finish()


def test_rows_from_the_middle_are_read_without_those_before(tmp_path: Path):
    rows = [StoredRow(f"{i:016x}", LabelRow({"text": f"t {i}"}, ("a",), FILE, i)) for i in range(40_000)]
    reader = write(tmp_path, "classify", {"train": rows})
    for start in (0, 1, 16_383, 16_384, 20_000, 39_999, 40_000, 50_000):
        assert list(reader.rows("train", start=start)) == rows[start:]


def test_a_dataset_of_an_earlier_version_gets_ids_on_reading(tmp_path: Path):
    old = pa.table({"text": ["one", "two", "One"], "label": ["a", "b", "a"], "file": ["f"] * 3, "line": [1, 2, 3]})
    pq.write_table(old, tmp_path / "train.parquet", compression="zstd")
    rows = list(DatasetReader(tmp_path, DatasetManifest("old", 1, "classify", ()), key=KEY).rows("train"))
    assert [one.id for one in rows] == RowIds(KEY).of([one.row for one in rows])
    assert [(one.row.texts, one.row.labels, one.row.line) for one in rows][1] == (["two"], ("b",), 2)
    assert {(one.origin, len(one.extra)) for one in rows} == {(None, 0)}


@given(st.lists(TEXT, max_size=30), st.randoms(use_true_random=False))
def test_ids_are_the_same_in_whatever_order_rows_stand(texts: list[str], order: random.Random):
    rows = [LabelRow({"text": text}, ("a",), FILE, 1) for text in texts]
    shuffled = order.sample(rows, len(rows))
    ids, others = RowIds(KEY).of(rows), RowIds(KEY).of(shuffled)
    assert sorted(ids) == sorted(others)
    assert len(set(ids)) == len(ids)


def test_an_id_is_of_the_text_and_the_key_alone():
    row, relabelled = (LabelRow({"text": "Ada  lives"}, (label,), FILE, 1) for label in "ab")
    assert row_id(KEY, row) == row_id(KEY, relabelled) == text_id(KEY, "ADA lives")
    assert row_id(KEY, row) != row_id(b"another", row)
    assert row_id(KEY, row) != row_id(KEY, row, 1)
    assert len(row_id(KEY, row)) == 16


@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=40), max_size=6))
def test_hashes_are_counted_as_a_dictionary_counts_them(batches: list[list[int]]):
    counter, seen = Occurrences(recent=10), dict[int, int]()
    for batch in batches:
        expected = []
        for one in batch:
            expected.append(seen.get(one, 0))
            seen[one] = seen.get(one, 0) + 1
        assert counter.count(batch) == expected


def labelled(count: int, **options: Any) -> list[StoredRow[Any]]:
    many = bool(options.get("multi_label"))
    return [
        StoredRow(
            f"{i:016x}",
            LabelRow({"text": f"text {i}"}, ("ab"[i % 2],), FILE, i, many),
            {"customer": f"c{i // 5}", "when": f"2026-01-{1 + i % 28:02}"},
        )
        for i in range(count)
    ]


def test_training_on_several_labels_needs_not_say_so_again(tmp_path: Path):
    write(tmp_path, "classify", {"train": labelled(60, multi_label=True)}, multi_label=True)
    data = gather(Data("some@1"), "classify", {}, {"some@1": str(tmp_path)})
    assert data.options == {"multi_label": True}
    assert all(row.is_multi for row in data.splits.train)


@pytest.mark.parametrize("options", [{"group": "customer"}, {"time": "when"}])
def test_missing_splits_are_made_by_the_columns_of_the_dataset(tmp_path: Path, options: dict[str, str]):
    write(tmp_path, "classify", {"train": labelled(100)}, **options)
    data = gather(Data("some@1"), "classify", {}, {"some@1": str(tmp_path)})
    assert sum(data.counts().values()) == 100
    assert data.leaks == ()
    (column,) = options.values()
    values = {split: {row.extra[column] for row in rows} for split, rows in data.stored.items()}
    assert not values["train"] & values["test"]


def test_rows_of_a_group_that_a_test_split_shares_are_told(tmp_path: Path):
    rows = labelled(60)
    write(tmp_path, "classify", {"train": rows[:41], "validation": rows[55:], "test": rows[41:55]}, group="customer")
    (leak,) = gather(Data("some@1"), "classify", {}, {"some@1": str(tmp_path)}).leaks[-1:]
    assert (leak.seen_in, leak.again_in, leak.examples) == ("train", "test", ("c8",))


def test_what_training_keeps_has_the_ids_and_columns_of_its_dataset(tmp_path: Path):
    write(tmp_path / "one", "classify", {"train": labelled(80)})
    data = gather(Data("some@1"), "classify", {}, {"some@1": str(tmp_path / "one")})
    written = keep(data, "classify", tmp_path / "two")
    kept = open_dataset(tmp_path / "two", "classify", {})
    rows = {row.id: row.extra for split in kept.splits for row in kept.rows(split)}
    assert rows == {row.id: row.extra for row in labelled(80)}
    assert written.extras == {"customer": 80, "when": 80}


def test_a_file_keeps_its_other_columns_in_training_too(tmp_path: Path):
    lines = [f"text number {i},{'ab'[i % 2]},web" for i in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,source", *lines]))
    data = gather(Data(str(tmp_path / "rows.csv")), "classify", {}, {}, key=KEY)
    assert {row.extra["source"] for rows in data.stored.values() for row in rows} == {"web"}
    assert [row.row for row in data.stored["test"]] == list(data.splits.test)


def test_rows_of_a_file_are_measured_under_the_ids_that_a_dataset_would_give_them(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("text,label\nwell done,good\nnot so well,bad\nwell done,good\n")
    found = dataset_rows(Data(str(tmp_path / "rows.csv")), "classify", {}, {}, KEY)
    assert found.ids == tuple(RowIds(KEY).of(found.rows))
    assert dataset_rows(Data(str(tmp_path / "rows.csv")), "classify", {}, {}, b"").ids == ()


def test_a_dataset_without_splits_is_measured_on_as_a_whole(tmp_path: Path):
    write(tmp_path, "classify", {"train": labelled(20)})
    found = dataset_rows(Data("some@1"), "classify", {}, {"some@1": str(tmp_path)}, KEY)
    assert (len(found.rows), found.path, found.ids[3]) == (20, "some@1", f"{3:016x}")
    write(tmp_path, "classify", {"test": labelled(5)})
    assert len(dataset_rows(Data("some@1"), "classify", {}, {"some@1": str(tmp_path)}, KEY).rows) == 5
