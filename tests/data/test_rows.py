"""Rows: every format, every way to be wrong, and the real data sets where they are at hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadRow
from llmos.abi.recipe import Data
from llmos.data.cells import MAX_TEXT_CHARS
from llmos.data.dataset import test_rows as rows_to_test
from llmos.data.formats import FORMATS
from llmos.data.formats.conll import as_iob2, scheme_of
from llmos.data.reader import read_rows
from llmos.data.row import Rows
from llmos.data.table import SAMPLE_ROWS
from llmos.tasks.tag import spans_of
from llmos.tasks.text import quote_value
from llmos.testing.errors import fails_with

REAL = Path(__file__).parents[3] / "shared" / "data"

KINDS = st.sampled_from(["PER", "LOC", "ORG"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40).filter(str.strip)
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=8)


def read(path: Path, task: str = "classify", options: dict[str, object] | None = None, **how: object) -> Rows[Any]:
    return read_rows(str(path), Data(str(path), **how), task, options or {})  # type: ignore[arg-type]


def wrote(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pairs(rows: Rows[Any]) -> list[tuple[str, ...]]:
    return [(row.input["text"], *row.labels) for row in rows.rows]


@settings(deadline=None)  # files are written and read
@given(st.lists(st.tuples(TEXTS, st.sampled_from(["yes", "no"])), min_size=1, max_size=8))
def test_what_csv_writes_is_read_back_with_its_lines(
    tmp_path_factory: pytest.TempPathFactory, examples: list[tuple[str, str]]
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("text", "label"), *examples])
    path = wrote(tmp_path_factory.mktemp("csv"), "rows.csv", out.getvalue())
    rows = read(path)
    assert pairs(rows) == examples
    lines = [row.line for row in rows.rows]
    assert lines == sorted(set(lines))
    assert lines[0] == 2


@settings(deadline=None)  # files are written and read
@given(st.lists(st.tuples(TEXTS, st.sampled_from(["1", "0"])), min_size=1, max_size=8))
def test_json_lines_and_parquet_hold_any_text(
    tmp_path_factory: pytest.TempPathFactory, examples: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    lines = "\n".join(json.dumps({"label": int(label), "text": text}) for text, label in examples)
    assert pairs(read(wrote(folder, "rows.jsonl", lines))) == examples
    table = pa.table({"text": [t for t, _ in examples], "label": [float(label) for _, label in examples]})
    pq.write_table(table, folder / "rows.parquet")
    assert pairs(read(folder / "rows.parquet")) == examples


@settings(deadline=None)  # files are written and read
@given(st.lists(st.lists(st.tuples(WORDS, st.none() | KINDS), min_size=1, max_size=6), min_size=1, max_size=4))
def test_every_scheme_gives_the_same_entities(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[tuple[str, str | None]]]
) -> None:
    """Each tagged word is an entity of its own, or joins the one before it of the same kind."""
    iob2 = [_tags(sentence) for sentence in sentences]
    for write in (_iob1, list, _bioes):
        written = [write(tags) for tags in iob2]
        assert [as_iob2(tags) for tags in written] == [tuple(tags) for tags in iob2]
        text = "\n\n".join(
            "\n".join(f"{word} X {tag}" for (word, _), tag in zip(sentence, tags, strict=True))
            for sentence, tags in zip(sentences, written, strict=True)
        )
        rows = read(wrote(tmp_path_factory.mktemp("conll"), "rows.conll", text), "tag")
        read_back = [(row.input["tokens"], list(row.tags)) for row in rows.rows]
        kept = [s for s in sentences if s[0][0] != "-DOCSTART-"]
        assert read_back == [([w for w, _ in s], t) for s, t in zip(sentences, iob2, strict=True) if s in kept]


def _tags(sentence: list[tuple[str, str | None]]) -> list[str]:
    tags, before = [], None
    for i, (_, kind) in enumerate(sentence):
        tags.append("O" if kind is None else f"{'I' if kind == before and i % 2 else 'B'}-{kind}")
        before = kind
    return tags


def _iob1(tags: list[str]) -> list[str]:
    made = []
    for before, tag in zip(["O", *tags], tags, strict=False):
        parts = tag.startswith("B-") and before[2:] == tag[2:]
        made.append(tag if tag == "O" or parts else f"I-{tag[2:]}")
    return made


def _bioes(tags: list[str]) -> list[str]:
    made = []
    for tag, after in zip(tags, [*tags[1:], "O"], strict=True):
        ends = tag != "O" and after != f"I-{tag[2:]}"
        made.append({"B": "S", "I": "E"}[tag[0]] + tag[1:] if ends else tag)
    return made


def test_schemes_are_told_apart() -> None:
    assert scheme_of([["I-PER", "I-PER", "O"], ["O", "I-LOC", "B-LOC"]]) == "IOB1"
    assert scheme_of([["B-PER", "I-PER", "O"]]) == "IOB2"
    assert scheme_of([["B-PER", "E-PER", "S-LOC"]]) == "BIOES"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("plain.csv", "text,label\nhi,greet\nbye,leave\n", [("hi", "greet"), ("bye", "leave")]),
        ("turned.csv", 'label,review\n1,"so, ""good"""\n0,bad\n', [('so, "good"', "1"), ("bad", "0")]),
        ("bare.tsv", 'a "fine film\t1\na dull film\t0\nanother\t1\n', [
            ('a "fine film', "1"), ("a dull film", "0"), ("another", "1")]),
        ("three.csv", '"1","A title","and more"\n"2","Other","words"\n"1","Third","one"\n', [
            ("A title and more", "1"), ("Other words", "2"), ("Third one", "1")]),
        ("own.csv", "phrase,kind\n" + "\n".join(f"words {i},{'ab'[i % 2]}" for i in range(6)), [
            (f"words {i}", "ab"[i % 2]) for i in range(6)]),
        ("bom.csv", b"\xef\xbb\xbftext,label\nhi,x\n", [("hi", "x")]),
    ],
)  # fmt: skip
def test_header_and_columns_are_found(
    tmp_path: Path, name: str, content: str | bytes, expected: list[tuple[str, str]]
) -> None:
    assert pairs(read(wrote(tmp_path, name, content))) == expected


def many(*names: str) -> str:
    """Four hundred sentences over seven kinds, under this header; `swap` has them the other way round."""
    return "\n".join([",".join(names), *(f"a sentence of number {i},kind {i % 7}" for i in range(400))])


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("txt,label", "txt", "label"),
        ("text,lable", "text", "lable"),
        ("txt,lable", "txt", "lable"),
        ("foo,bar", "foo", "bar"),
        ("text,zzz", "text", "zzz"),
    ],
)
def test_a_slip_of_the_pen_in_a_header_swaps_nothing_and_is_told(
    tmp_path: Path, header: str, text: str, label: str
) -> None:
    rows = read(wrote(tmp_path, "rows.csv", many(header)))
    assert rows.columns == {"text": text, "label": label}
    assert pairs(rows)[0] == ("a sentence of number 0", "kind 0")
    assert f"column {text!r} (400 different values) is taken as the text, {label!r} (7 different" in rows.note


def test_a_name_decides_also_against_what_is_in_the_columns(tmp_path: Path) -> None:
    """Texts that come again and labels that do not: by counting values alone they would be taken for each other."""
    lines = "\n".join(["text,lable", *(f"{'yes' if i % 2 else 'no'},{i}" for i in range(40))])
    assert pairs(read(wrote(tmp_path, "rows.csv", lines)))[1] == ("yes", "1")
    turned = "\n".join(["lable,txt", *(f"{i % 20},{'yes' if i % 2 else 'no'}" for i in range(40))])
    assert pairs(read(wrote(tmp_path, "rows.csv", turned)))[1] == ("yes", "1")


def test_two_labels_in_every_row_of_a_few_are_a_header_all_the_same(tmp_path: Path) -> None:
    rows = read(wrote(tmp_path, "rows.csv", "txt,lable\n" + "\n".join(f"words {i},l{i}" for i in range(3))))
    assert len(rows.rows) == 3


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_columns_that_nothing_tells_apart_are_named_and_not_guessed(tmp_path: Path, ending: str) -> None:
    cells = [(f"left {i % 5}", f"right {i % 6}") for i in range(60)]
    lines = ["foo,bar", *(f"{a},{b}" for a, b in cells)]
    if ending == "jsonl":
        lines = [json.dumps({"foo": a, "bar": b}) for a, b in cells]
    path = wrote(tmp_path, f"rows.{ending}", "\n".join(lines))
    with fails_with(BadRow, file=str(path), line=1, kind="columns", value=["foo", "bar"]):
        read(path)
    assert pairs(read(path, text="bar", label="foo"))[0] == ("right 0", "left 0")
    assert read(path, text="bar").columns == {"text": "bar", "label": "foo"}


def test_what_names_say_needs_no_note(tmp_path: Path) -> None:
    assert read(wrote(tmp_path, "rows.csv", many("text,label"))).note == ""
    assert "'0' (400 different" in read(wrote(tmp_path, "bare.csv", many("text,label").partition("\n")[2])).note


def test_columns_are_taken_by_name_or_number(tmp_path: Path) -> None:
    path = wrote(tmp_path, "rows.csv", "a,b,c\nx,y,z\nu,v,w\n")
    assert pairs(read(path, text="b", label="c", has_header=True)) == [("y", "z"), ("v", "w")]
    assert pairs(read(path, text="0,1", label="2", has_header=False))[0] == ("a b", "c")
    with fails_with(BadRow, line=1, kind="columns", column="intent", value=["a", "b", "c"]):
        read(path, text="b", label="intent", has_header=True)


def test_many_labels_come_from_lists_or_bars(tmp_path: Path) -> None:
    many = {"multi_label": True}
    assert [r.labels for r in read(wrote(tmp_path, "a.csv", "text,labels\nx,a|b\ny,\n"), options=many).rows] == [
        ("a", "b"),
        (),
    ]
    lines = '{"text": "x", "labels": ["a", "b"]}\n{"text": "y", "labels": []}'
    assert [r.labels for r in read(wrote(tmp_path, "a.jsonl", lines), options=many).rows] == [("a", "b"), ()]


def test_spans_of_characters_become_tags_of_words(tmp_path: Path) -> None:
    line = {"text": "Send Ada's order to New York.", "spans": [
        {"start": 5, "end": 8, "label": "PER"}, {"start": 20, "end": 28, "label": "LOC"}]}  # fmt: skip
    (row,) = read(wrote(tmp_path, "a.jsonl", json.dumps(line)), "tag").rows
    assert [(label, row.input["tokens"][a:b]) for label, a, b in spans_of(row.tags)] == [
        ("PER", ["Ada"]),
        ("LOC", ["New", "York"]),
    ]


BAD = [
    ("empty.csv", "", 1, "empty_file", None),
    ("header.csv", "text,label\n", 1, "no_rows", None),
    ("utf8.csv", b"text,label\nqu\xc3\xa9,a\n\xc3\xbc,a\ncaf\xe9,b\n", 4, "encoding", b"\xe9"),
    ("ragged.csv", "text,label\nok,a\nno, no,b\n", 3, "width", "no, no,b"),
    ("quote.csv", 'text,label\nok,a\n"open,b\n', 3, "quotes", None),
    ("blank.csv", "text,label\nok,a\n ,b\n", 3, "no_text", " "),
    ("nolabel.csv", "text,label\nok,a\nno,\n", 3, "label", ""),
    ("nan.csv", "text,label\nok,1\nno,nan\n", 3, "label", "nan"),
    ("nan.jsonl", '{"text": "ok", "label": 1}\n{"text": "no", "label": NaN}', 2, "json", "NaN"),
    ("object.jsonl", '{"text": "ok", "label": 1}\n[1]', 2, "json", [1]),
    ("broken.jsonl", '{"text": "ok", "label": 1}\n{"text"', 2, "json", '{"text"'),
    ("lacks.jsonl", '{"text": "ok", "label": 1}\n{"text": "no"}', 2, "label", None),
    ("long.csv", f"text,label\n{'x' * 1_000_000},a\n", 2, "long_text", "x" * 1_000_000),
    ("nul.csv", "text,label\nok,a\nb\x00d,b\n", 3, "nul", "\x00"),
    ("magic.parquet", "PAR1 text,label\nok,a\n", 1, "parquet", None),
]


def test_a_column_that_no_name_is_like_is_named_by_what_it_is_for(tmp_path: Path) -> None:
    with fails_with(BadRow, line=1, kind="columns", column="label", value=["text", "kinds", "more"]):
        read(wrote(tmp_path, "column.csv", "text,kinds,more\na,b,c\n"))


@pytest.mark.parametrize(("name", "content", "line", "kind", "value"), BAD, ids=[name for name, *_ in BAD])
def test_a_bad_row_is_named_by_file_line_kind_and_value(
    tmp_path: Path, name: str, content: str | bytes, line: int, kind: str, value: Any
) -> None:
    wanted = {"file": str(tmp_path / name), "line": line, "kind": kind, "value": quote_value(value)}
    with fails_with(BadRow, **wanted) as refused:
        read(wrote(tmp_path, name, content))
    assert len(refused.value.message) < 600


BAD_TAGS = [
    ("empty.conll", "-DOCSTART- O\n\n", 1, "no_rows", None),
    ("ragged.conll", "a X O\nb O\n", 2, "width", "b O"),
    ("tag.conll", "a O\nb PERSON\n", 2, "tag", "PERSON"),
    ("word.conll", "a\tO\n \tO\n", 2, "empty", " \tO"),
    ("few.jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}', 1, "tag_count", ["O"]),
    (
        "span.jsonl",
        '{"text": "abc", "spans": [{"start": 2, "end": 9, "label": "X"}]}',
        1,
        "span_place",
        [2, 9, "X"],
    ),
    ("keys.jsonl", '{"text": "abc", "spans": [{"from": 2}]}', 1, "span_fields", {"from": 2}),
]


@pytest.mark.parametrize(("name", "content", "line", "kind", "value"), BAD_TAGS, ids=[name for name, *_ in BAD_TAGS])
def test_bad_tags_are_named_too(tmp_path: Path, name: str, content: str, line: int, kind: str, value: Any) -> None:
    with fails_with(BadRow, file=str(tmp_path / name), line=line, kind=kind, value=quote_value(value)):
        read(wrote(tmp_path, name, content), "tag")


@pytest.mark.parametrize("told", [{"text": "-5"}, {"text": "2"}, {"label": "-3"}, {"label": "2"}])
def test_a_column_that_conll_lines_do_not_have_is_told(tmp_path: Path, told: dict[str, str]) -> None:
    path = wrote(tmp_path, "short.conll", "a O\nb O\n")
    with fails_with(BadRow, file=str(path), line=1, kind="few_columns", value=...):
        read_rows(str(path), Data(str(path), **told), "tag", {})


def test_nan_is_a_label_among_words_and_parquet_nan_is_not(tmp_path: Path) -> None:
    rows = read(wrote(tmp_path, "languages.csv", "text,label\nli ho,nan\nhello,eng\n"))
    assert [row.labels for row in rows.rows] == [("nan",), ("eng",)]
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, float("nan")]}), tmp_path / "a.parquet")
    with fails_with(BadRow, line=2, kind="label", value="nan"):
        read(tmp_path / "a.parquet")


def test_what_cannot_be_read_says_how_to_go_on(tmp_path: Path) -> None:
    with fails_with(BadInput, file=str(tmp_path / "nowhere.csv")):
        read(tmp_path / "nowhere.csv")
    with fails_with(BadInput, file=str(tmp_path / "rows.dat"), expected=list(FORMATS)):
        read(wrote(tmp_path, "rows.dat", "one\ntwo\n"))
    with fails_with(BadInput, file=str(tmp_path / "rows.csv"), format="csv", task="tag"):
        read(wrote(tmp_path, "rows.csv", "a,b\n"), "tag")
    assert MAX_TEXT_CHARS < 1_000_000


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the data sets in {REAL}")
@pytest.mark.parametrize(
    ("file", "task", "count", "labels"),
    [
        ("conll2003/eng.train", "tag", 14_041, None),
        ("conll2003/eng.testa", "tag", 3_250, None),
        ("conll2003/eng.testb", "tag", 3_453, None),
        ("sst2/train.tsv", "classify", 6_920, {"0", "1"}),
        ("banking77/train.csv", "classify", 10_003, None),
        ("chnsenticorp/hotel_reviews.csv", "classify", 7_765, {"0", "1"}),
        ("agnews/test.csv", "classify", 7_600, {"1", "2", "3", "4"}),
    ],
)
def test_real_data_is_read_as_it_comes(file: str, task: str, count: int, labels: set[str] | None) -> None:
    rows = read(REAL / file, task, {"skip_empty": True})
    assert len(rows.rows) == count
    assert rows.skip_count == (1 if "chn" in file else 0)
    if task == "tag":
        assert rows.scheme == "IOB1"
        kinds = {label for row in rows.rows for label, _, _ in spans_of(row.tags)}
        assert kinds == {"PER", "ORG", "LOC", "MISC"}
    if labels is not None:
        assert {label for row in rows.rows for label in row.labels} == labels


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the data sets in {REAL}")
def test_an_empty_text_in_real_data_is_refused_until_told_to_skip_it() -> None:
    with fails_with(BadRow, line=6_376, kind="no_text"):
        read(REAL / "chnsenticorp/hotel_reviews.csv")


def test_the_rows_of_a_stored_dataset_go_by_its_ref(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table({"text": ["hi"], "label": ["a"]}), tmp_path / f"{split}.parquet")
    found = rows_to_test(Data("tickets@1"), "classify", {}, {"tickets@1": str(tmp_path)}, b"key")
    assert (found.path, len(found.rows)) == ("tickets@1", 1)


MIXED = "text,label,id\nok,a,1\n,b,2\nfine,b,3\nwide,a,4,5\n ,a,6\n"


def test_all_bad_rows_are_found_in_one_reading_and_counted_by_kind(tmp_path: Path) -> None:
    with pytest.raises(BadRow) as refused:
        read(wrote(tmp_path, "rows.csv", MIXED))
    detail = refused.value.detail
    assert (detail["count"], detail["kinds"], detail["line"]) == (3, {"no_text": 2, "width": 1}, 3)
    assert [row["line"] for row in detail["rows"]] == [3, 5, 6]


def test_bad_rows_are_left_out_and_counted_where_the_user_says_so(tmp_path: Path) -> None:
    rows = read(wrote(tmp_path, "rows.csv", MIXED), on_bad_row="skip")
    assert pairs(rows) == [("ok", "a"), ("fine", "b")]
    assert rows.skip_counts == {"no_text": 2, "width": 1}


def test_at_most_twenty_bad_rows_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    lines = "\n".join(["text,label", *("ok,a" if i % 2 else ",b" for i in range(100))])
    with pytest.raises(BadRow) as refused:
        read(wrote(tmp_path, "rows.csv", lines))
    assert (refused.value.detail["count"], len(refused.value.detail["rows"])) == (50, 20)


def test_a_file_of_bad_rows_alone_is_refused_also_where_they_are_skipped(tmp_path: Path) -> None:
    with pytest.raises(BadRow) as refused:
        read(wrote(tmp_path, "rows.jsonl", "{\n[\n"), on_bad_row="skip")
    assert refused.value.detail["kinds"] == {"json": 2}


def test_columns_that_nothing_is_read_from_are_named(tmp_path: Path) -> None:
    rows = read(wrote(tmp_path, "rows.csv", "text,label,id\nhi,a,1\n"))
    assert rows.left_out == ("id",)
    assert "'id'" in rows.notes[0]


@pytest.mark.parametrize("task", ["classify", "tag", "rerank", "chat"])
def test_empty_rows_of_every_task_are_skipped_where_the_option_says_so(tmp_path: Path, task: str) -> None:
    lines = {
        "classify": ['{"text": "a", "label": "x"}', '{"text": " ", "label": "x"}'],
        "tag": ['{"tokens": ["a"], "tags": ["B-X"]}', '{"tokens": [], "tags": []}'],
        "rerank": ['{"query": "a", "document": "b", "label": 1}', '{"query": "a", "document": "", "label": 1}'],
        "chat": ['{"prompt": "a", "completion": "b"}', '{"prompt": "a", "completion": null}'],
    }[task]
    rows = read(wrote(tmp_path, "rows.jsonl", "\n".join(lines)), task, {"skip_empty": True})
    assert (len(rows.rows), rows.skip_counts) == (1, {"empty": 1})


def test_a_table_longer_than_its_sample_gives_every_row_once(tmp_path: Path) -> None:
    count = SAMPLE_ROWS + 5
    lines = [json.dumps({"text": f"t{i}", "label": i % 2}) for i in range(count)]
    lines.append(json.dumps({"text": "last", "label": 1, "weight": 2}))
    rows = read(wrote(tmp_path, "rows.jsonl", "\n".join(lines)))
    assert [row.line for row in rows.rows] == list(range(1, count + 2))
    assert rows.left_out == ("weight",)
