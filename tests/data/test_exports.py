"""Exports: whatever is written in a format is read back as the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.recipe import Data
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.exports.export import ExportedDataset
from llmos.data.exports.registry import EXPORTS, export_named, exports_of
from llmos.data.exports.words import as_bioes
from llmos.data.formats.conll import as_iob2
from llmos.data.reader import read_rows
from llmos.data.row import LabelRow, PairRow, SpanRow, TagRow, TextRow
from llmos.testing.errors import fails_with

SIGN = st.one_of(
    st.sampled_from([*"abz 09,;|\t\"'=#_-\\/{}[]:", "é", "\u0301", "中", "文", "🎉", "\u200b", "\u00a0", "\n"]),
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")),
)
TEXT = st.text(SIGN, min_size=1, max_size=24).map(lambda text: f"so {text} it is")
WORD = st.text(st.characters(categories=("L", "Nd", "P", "So")), min_size=1, max_size=6)
LABELS = ("card arrival", "übrig", "中文", "a-b_c", 'O\'Neil, "Bob"')
TASKS = ("classify", "tag", "answer", "similarity", "rerank", "generate", "summarize", "translate", "chat")
MULTI = {"multi_label": True}
FILE = "rows.csv"


@st.composite
def tagged(draw: st.DrawFn) -> TagRow:
    words = draw(st.lists(WORD, min_size=2, max_size=6))
    kinds = draw(st.lists(st.sampled_from(["PER", "LOC", None]), min_size=len(words), max_size=len(words)))
    kinds[0] = kinds[0] or "PER"
    return TagRow({"tokens": words}, tuple(f"B-{kind}" if kind else "O" for kind in kinds), FILE, 1)


def row_of(task: str) -> st.SearchStrategy[Any]:
    texts, number = (TEXT, TEXT), st.integers(0, 4).map(float)
    turns = st.lists(st.just("system"), min_size=0, max_size=1)
    return {
        "classify": st.builds(
            lambda text, label: LabelRow({"text": text}, (label,), FILE, 1), TEXT, st.sampled_from(LABELS)
        ),
        "tag": tagged(),
        "answer": st.builds(
            lambda q, p, has: SpanRow({"question": q, "passage": p}, ("so",) * has, (0,) * has, FILE, 1),
            *texts,
            st.booleans(),
        ),
        "similarity": st.builds(lambda a, b, n: PairRow({"text": a, "other": b}, n / 4, FILE, 1), *texts, number),
        "rerank": st.builds(lambda a, b, n: PairRow({"query": a, "documents": [b]}, n, FILE, 1), *texts, number),
        "generate": st.builds(lambda a, b: TextRow({"prompt": a}, b, FILE, 1), *texts),
        "summarize": st.builds(lambda a, b: TextRow({"text": a}, b, FILE, 1), *texts),
        "translate": st.builds(lambda a, b: TextRow({"text": a}, b, FILE, 1), *texts),
        "chat": st.builds(
            lambda roles, a, b: TextRow(
                {
                    "messages": [
                        *({"role": "system", "content": a} for r in roles if r == "system"),
                        {"role": "user", "content": a},
                    ]
                },
                b,
                FILE,
                1,
            ),
            turns,
            *texts,
        ),
    }[task]


def stored(rows: list[Any]) -> list[StoredRow[Any]]:
    return [StoredRow(f"{i:016x}", row, {"customer": f"c{i}"}) for i, row in enumerate(rows)]


def dataset_of(task: str, rows: list[Any], options: dict[str, Any]) -> ExportedDataset:
    labels = tuple(sorted({kind for row in rows for kind in row.kinds}))
    return ExportedDataset(task, options, labels, ("customer",))


def through(folder: str, form: str, task: str, rows: list[Any], options: dict[str, Any]) -> tuple[Any, ...]:
    """The rows after this format."""
    dataset = dataset_of(task, rows, options)
    export = export_named(form, dataset)
    path = Path(folder, f"rows.{export.ending}")
    path.unlink(missing_ok=True)
    export.write(path, iter(stored(rows)), dataset)
    if export.ending == "zip":
        with ZipFile(path) as packed:
            packed.extractall(path := path.with_suffix(""))
    return read_rows(str(path), Data(str(path)), task, options).rows


PAIRED = [(task, form) for task in TASKS for form in exports_of(task)]
CHARACTERS = ("label-studio", "doccano", "spacy", "prodigy")


@pytest.mark.parametrize(("task", "form"), PAIRED, ids=lambda one: str(one))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_exported_is_read_back_the_same(task: str, form: str, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(row_of(task), min_size=2, max_size=5))
    if task == "classify":
        drawn += [LabelRow({"text": "one more of each"}, (label,), FILE, 1) for label in LABELS]
    if form == "fasttext":
        drawn = [LabelRow({"text": " ".join(row.input["text"].split())}, ("x",), FILE, 1) for row in drawn]
    with TemporaryDirectory() as folder:
        rows = through(folder, "jsonl", task, drawn, {})  # as they are after a reading, which strips what is around
        assert len(rows) == len(drawn)
        again = through(folder, form, task, list(rows), {})
    if form in CHARACTERS and task == "tag":
        assert [row.text for row in again] == [" ".join(row.input["tokens"]) for row in rows]
        marked = [[" ".join(w) for w in _entities(row)] for row in rows]
        assert [[row.text[a:b] for a, b, _ in row.spans] for row in again] == marked
    else:
        assert [row.identity for row in again] == [row.identity for row in rows]


def _entities(row: TagRow) -> list[list[str]]:
    found: list[list[str]] = []
    for word, tag in zip(row.input["tokens"], row.tags, strict=True):
        if tag.startswith("B-"):
            found.append([word])
        elif tag.startswith("I-"):
            found[-1].append(word)
    return found


@pytest.mark.parametrize("form", exports_of("classify"))
def test_several_labels_of_a_row_come_back(tmp_path: Path, form: str) -> None:
    rows = [
        LabelRow({"text": f"this is text {i}"}, labels, FILE, 1, True)
        for i, labels in enumerate([("a", "b"), ("b",), ("c", "a"), ("b", "c")])
    ]
    again = through(str(tmp_path), form, "classify", rows, MULTI)
    assert [set(row.labels) for row in again] == [set(row.labels) for row in rows]


@pytest.mark.parametrize("form", exports_of("tag"))
def test_entities_of_a_text_keep_their_characters(tmp_path: Path, form: str) -> None:
    text = "🎉 Zoë  lives in 北京, friend"
    spans = ((2, 5, "PER"), (16, 18, "LOC"))
    rows = [TagRow({"tokens": ["🎉", "Zoë", "lives", "in", "北京", ",", "friend"]},
                   ("O", "B-PER", "O", "O", "B-LOC", "O", "O"), FILE, 1, text, spans)] * 2  # fmt: skip
    again = through(str(tmp_path), form, "tag", rows, {})
    if form in ("conll", "conllu", "parquet", "arrow", "saved-dataset"):
        assert [(row.input, row.tags) for row in again] == [(row.input, row.tags) for row in rows]
    else:
        assert [(row.text, row.spans) for row in again] == [(text, spans)] * 2


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=12))
def test_bioes_and_back_is_iob2(tags: list[str]) -> None:
    assume(as_iob2(tags) == tuple(tags))
    assert as_iob2(as_bioes(tags)) == tuple(tags)


def test_every_format_is_of_a_task_and_others_are_refused_with_those_that_can() -> None:
    preferred = {name for name, one in EXPORTS.items() if one.forms}  # their tests stand in test_preference_rows.py
    assert {form for task in TASKS for form in exports_of(task)} | preferred == set(EXPORTS)
    with fails_with(BadInput, key="format", expected=exports_of("tag")):
        export_named("csv", ExportedDataset("tag"))
    with fails_with(BadInput, key="format"):
        export_named("docx", ExportedDataset("tag"))
    with fails_with(BadInput, key="scheme"):
        export_named("conll", ExportedDataset("tag", scheme="iobes2"))


@pytest.mark.parametrize(
    ("form", "task", "row"),
    [
        ("fasttext", "classify", LabelRow({"text": "so"}, ("two words",), FILE, 1)),
        ("conll", "tag", TagRow({"tokens": ["a\tb"]}, ("O",), FILE, 1)),
        (
            "sharegpt",
            "chat",
            TextRow({"messages": [{"role": "tool", "content": "3", "tool_call_id": "1"}]}, "Three.", FILE, 1),
        ),
        (
            "alpaca",
            "chat",
            TextRow({"messages": [{"role": r, "content": "a"} for r in ("user", "assistant", "user")]}, "d", FILE, 1),
        ),
    ],
)  # fmt: skip
def test_what_a_format_cannot_say_is_refused_and_not_changed(tmp_path: Path, form: str, task: str, row: Any) -> None:
    dataset = dataset_of(task, [row], {})
    with fails_with(BadInput, format=form):
        export_named(form, dataset).write(tmp_path / "rows", iter(stored([row])), dataset)


def test_ids_and_other_columns_are_in_the_files_that_can_carry_them(tmp_path: Path) -> None:
    rows = [LabelRow({"text": "so"}, ("a",), FILE, 1)]
    dataset = dataset_of("classify", rows, {})
    EXPORTS["jsonl"].write(tmp_path / "rows", iter(stored(rows)), dataset)
    assert json.loads((tmp_path / "rows").read_text()) == {
        "text": "so",
        "label": "a",
        "id": "0" * 16,
        "customer": "c0",
    }
