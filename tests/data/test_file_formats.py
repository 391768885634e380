"""File formats: every shape of the page's table is read, by its content, into the same rows."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadRow, LlmosError
from llmos.abi.recipe import Data
from llmos.data.decoding import open_text
from llmos.data.formats import FORMATS, format_of
from llmos.data.json_cursor import JsonCursor
from llmos.data.reader import read_rows
from llmos.data.row import Rows

ROWS = [("Where is my café parcel?", "shipping"), ('It’s late, "very" late', "billing"), ("one;two|three", "shipping")]
NAMES = ("text", "label")
SIMPLE = [("late again", "a"), ("two words", "b"), ("three more words", "a")]


def read(path: Path, task: str = "classify", options: dict[str, object] | None = None, **how: object) -> Rows[Any]:
    return read_rows(str(path), Data(str(path), **how), task, options or {})  # type: ignore[arg-type]


def pairs(rows: Rows[Any]) -> list[tuple[str, ...]]:
    return [(row.input["text"], *row.labels) for row in rows.rows]


def delimited(delimiter: str = ",", **how: Any) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, **how).writerows([NAMES, *ROWS])
    return out.getvalue()


def objects() -> list[dict[str, str]]:
    return [dict(zip(NAMES, row, strict=True)) for row in ROWS]


def columns() -> dict[str, dict[str, str]]:
    return {name: {str(i): row[at] for i, row in enumerate(ROWS)} for at, name in enumerate(NAMES)}


def zipped(content: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("rows/train.csv", content)
        packed.writestr("__MACOSX/rows/._train.csv", "noise")
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as packed:
        packed.write(data)
    return bytes(out.getvalue())


def numbered(start: int) -> str:
    """The CSV's rows with a number before each, and the header as it is."""
    rows = list(csv.reader(io.StringIO(CSV)))
    out = io.StringIO(newline="")
    csv.writer(out).writerows([rows[0], *([start + i, *row] for i, row in enumerate(rows[1:]))])
    return out.getvalue()


def table() -> dict[str, object]:
    """As pandas' orient "table" has it."""
    rows = [{"index": i, **one} for i, one in enumerate(objects())]
    return {"schema": {"fields": [], "primaryKey": ["index"], "pandas_version": "1.4.0"}, "data": rows}


def one_hot() -> str:
    """The rows with a column for each label."""
    out = io.StringIO(newline="")
    labels = ("billing", "shipping")
    csv.writer(out).writerows(
        [("text", *labels), *((text, *(int(label == one) for one in labels)) for text, label in ROWS)]
    )
    return out.getvalue()


CSV = delimited()


# The rows above as each export has them: the name of the shape, the file's name, and what is in it.
def argilla(text: str, label: str, status: str = "submitted") -> dict[str, object]:
    """A record with a suggestion beside its response."""
    suggested = {"label": {"value": "guessed", "score": 0.4, "agent": "model"}}
    answered = {"label": [{"value": label, "user_id": "7f", "status": status}]}
    return {
        "id": text[:3],
        "fields": {"text": text},
        "suggestions": suggested,
        "responses": answered,
        "status": "completed",
    }


def flat_argilla(text: str, label: str, status: str = "submitted") -> dict[str, object]:
    """As Argilla 2.8 gives a record with flatten=True."""
    return {
        "id": text[:3],
        "status": "pending",
        "_server_id": None,
        "text": text,
        "label.responses": [label],
        "label.responses.users": ["00000000-0000-0000-0000-000000000001"],
        "label.responses.status": [status],
    }


def argilla_1(text: str, label: str, status: str = "submitted") -> dict[str, object]:
    """A record as the first Argilla exports it."""
    answered = [{"user_id": "7f", "values": {"label": {"value": label}}, "status": status}]
    return {"fields": {"text": text}, "responses": answered, "suggestions": [], "external_id": None}


SHAPES: dict[str, tuple[str, str | bytes]] = {
    "csv": ("rows.csv", CSV),
    "csv-semicolon": ("rows.csv", delimited(";")),
    "csv-pipe": ("rows.csv", delimited("|")),
    "csv-sep-line": ("rows.csv", "sep=;\r\n" + delimited(";")),
    "csv-escaped-quotes": ("rows.csv", delimited(quoting=csv.QUOTE_ALL, escapechar="\\", doublequote=False)),
    "csv-index-column": ("rows.csv", "," + numbered(0)),
    "csv-r-row-names": ("rows.csv", numbered(1)),
    "csv-trailing-delimiter": ("rows.csv", CSV.replace("\r\n", ",\r\n")),
    "csv-cr-lines": ("rows.csv", CSV.replace("\r\n", "\r")),
    "csv-without-ending": ("rows", CSV),
    "tsv": ("rows.tsv", "\n".join("\t".join(row) for row in (NAMES, *ROWS))),
    "tsv-quoted": ("rows.tsv", delimited("\t", quoting=csv.QUOTE_ALL)),
    "tsv-named-txt": ("rows.txt", delimited("\t")),
    "utf-8-bom": ("rows.csv", b"\xef\xbb\xbf" + CSV.encode()),
    "utf-16": ("rows.txt", delimited("\t").encode("utf-16")),
    "utf-16-without-mark": ("rows.csv", CSV.encode("utf-16-be")),
    "windows-1252": ("rows.csv", delimited(";").encode("cp1252")),
    "gzip": ("rows.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
    "bzip2": ("rows.csv.bz2", bz2.compress(CSV.encode())),
    "xz": ("rows.csv.xz", lzma.compress(CSV.encode())),
    "zstd": ("rows.csv.zst", zstd(CSV.encode())),
    "zip": ("rows.zip", zipped(CSV)),
    "jsonl": ("rows.jsonl", "\n".join(map(json.dumps, objects()))),
    "jsonl-named-json": ("rows.json", "\n".join(map(json.dumps, objects()))),
    "json-objects-over-lines": ("rows.json", "\n".join(json.dumps(one, indent=1) for one in objects())),
    "json-list": ("rows.json", json.dumps(objects(), indent=2)),
    "json-list-on-one-line": ("rows.json", json.dumps(objects())),
    "json-data-key": ("rows.json", json.dumps({"version": "1", "data": objects()})),
    "json-pandas-columns": ("rows.json", json.dumps(columns())),
    "json-pandas-index": ("rows.json", json.dumps({str(i): one for i, one in enumerate(objects())})),
    "json-pandas-split": ("rows.json", json.dumps({"columns": NAMES, "index": [0, 1, 2], "data": ROWS})),
    "json-pandas-table": ("rows.json", json.dumps(table())),
    "json-columns-as-lists": ("rows.json", json.dumps(dict(zip(NAMES, zip(*ROWS, strict=True), strict=True)))),
    "json-list-of-lists": ("rows.json", json.dumps([NAMES, *ROWS])),
    "one-hot": ("rows.csv", one_hot()),
    "fasttext": ("rows.txt", "\n".join(f"__label__{label} {text}" for text, label in ROWS)),
    "argilla": ("records.json", json.dumps([argilla(*row) for row in ROWS])),
    "argilla-1": ("records.jsonl", "\n".join(json.dumps(argilla_1(*row)) for row in ROWS)),
}  # fmt: skip


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_the_page_is_read_into_the_same_rows(tmp_path: Path, shape: str) -> None:
    rows = read(written(tmp_path, *SHAPES[shape]))
    assert pairs(rows)[: len(ROWS)] == ROWS
    assert len({row.line for row in rows.rows}) == len(rows.rows)


def test_a_record_that_nobody_answered_is_left_out_whatever_was_suggested(tmp_path: Path) -> None:
    unanswered = {**argilla("What is it?", "none"), "responses": {}}
    discarded = argilla_1("And that?", "none", "discarded")
    records = [*(argilla(*row) for row in ROWS), unanswered, discarded]
    rows = read(written(tmp_path, "records.json", json.dumps(records)))
    assert pairs(rows) == ROWS
    assert rows.skip_counts == {"unfinished": 1, "discarded": 1}
    assert "suggestions" in rows.left_out


def test_flat_records_of_argilla_are_read_and_counted_like_nested_ones(tmp_path: Path) -> None:
    unanswered = {key: value for key, value in flat_argilla("What is it?", "none").items() if "responses" not in key}
    discarded = flat_argilla("And that?", "none", "discarded")
    records = [*(flat_argilla(*row) for row in ROWS), unanswered, discarded]
    rows = read(written(tmp_path, "records.json", json.dumps(records)))
    assert (pairs(rows), rows.skip_counts) == (ROWS, {"unfinished": 1, "discarded": 1})
    twice = {**flat_argilla("Which of two?", "x"), "label.responses": ["x", "y"], "label.responses.status": ["draft"]}
    rows = read(written(tmp_path, "records.json", json.dumps([flat_argilla(*ROWS[0]), twice])))
    assert pairs(rows) == [ROWS[0], ("Which of two?", "y")]


def test_a_question_named_like_a_field_does_not_replace_the_field(tmp_path: Path) -> None:
    answered = {"text": [{"value": "b", "user_id": "7f"}]}
    records = [{"fields": {"text": "a"}, "responses": answered}, {"fields": {"text": "c"}, "responses": answered}]
    rows = read(written(tmp_path, "records.json", json.dumps(records)), label="text.response")
    assert pairs(rows) == [("a", "b"), ("c", "b")]


def test_spans_that_answer_a_question_are_tags(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 3, "label": "PER"}, {"start": 9, "end": 13, "label": "LOC"}]
    answered = {"entities": [{"value": spans, "user_id": "7f"}]}
    records = [{"fields": {"text": "Ada left Rome"}, "responses": answered}]
    rows = read(written(tmp_path, "records.json", json.dumps(records)), "tag").rows
    assert (rows[0].tags, rows[0].spans) == (("B-PER", "O", "B-LOC"), ((0, 3, "PER"), (9, 13, "LOC")))


def test_responses_without_values_are_no_answers(tmp_path: Path) -> None:
    odd = {"fields": {"text": "a"}, "responses": [{"values": "x"}, {"values": None}]}
    rows = read(written(tmp_path, "records.json", json.dumps([*(argilla_1(*row) for row in ROWS), odd])))
    assert (pairs(rows), rows.skip_counts) == (ROWS, {"unfinished": 1})


@pytest.mark.parametrize("shape", ["json-list", "jsonl", "csv", "utf-16"])
def test_a_row_has_the_line_where_it_begins(tmp_path: Path, shape: str) -> None:
    path = written(tmp_path, *SHAPES[shape])
    codec = "utf-16" if shape == "utf-16" else "utf-8"
    lines = path.read_text(codec).splitlines()
    first = read(path).rows[0]
    near = lines[first.line - 1 : first.line + 1]
    assert any("Where is my" in line for line in near)


def test_a_column_of_row_numbers_is_named_as_left_out(tmp_path: Path) -> None:
    assert read(written(tmp_path, *SHAPES["csv-index-column"])).left_out == ("Unnamed: 0",)
    assert read(written(tmp_path, *SHAPES["csv-r-row-names"])).left_out == ("Unnamed: 0",)


def test_the_encoding_that_was_read_is_told_with_words_to_check_it_by(tmp_path: Path) -> None:
    rows = read(written(tmp_path, *SHAPES["windows-1252"]))
    assert rows.encoding == "WINDOWS-1252"
    assert "'café'" in rows.notes[0]
    assert read(written(tmp_path, *SHAPES["csv"])).encoding == ""


def test_an_encoding_that_the_user_names_is_the_one_that_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", "text,label\nłódź,a\nżółw,b\n".encode("cp1250"))
    assert [text for text, _ in pairs(read(path, encoding="windows-1250"))] == ["łódź", "żółw"]
    with pytest.raises(BadInput) as refused:
        read(path, encoding="martian")
    assert refused.value.detail["value"] == "martian"


def test_a_sentence_names_bytes_whose_encoding_does_not_show_and_how_to_convert(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", b"text,label\n\x81\x8d\x9d\xff\xfe,a\n")
    with pytest.raises(BadRow, match=r"line 2: the bytes .* are not UTF-8.*option encoding.*iconv -f ENCODING"):
        read(path)


def test_a_broken_line_of_a_file_in_utf8_is_a_bad_row_and_no_other_encoding(tmp_path: Path) -> None:
    data = "text,label\ncafé,a\nnaïve,b\nüber,a\n".encode() + b"caf\xe9,b\n"
    path = written(tmp_path, "rows.csv", data)
    with pytest.raises(BadRow) as refused:
        read(path)
    assert [refused.value.detail[key] for key in ("line", "kind", "value")] == [5, "encoding", repr(b"\xe9")]
    assert "WINDOWS-1252" in refused.value.detail["way_out"]
    assert len(read(path, on_bad_row="skip").rows) == 3


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_half_of_a_surrogate_pair_is_a_bad_row_with_its_line(tmp_path: Path, ending: str) -> None:
    lines = ['{"text": "whole \\ud83d\\ude00", "label": "a"}', '{"text": "half \\ud83d", "label": "b"}']
    content = "\n".join(lines) if ending == "jsonl" else "[\n" + ",\n".join(lines) + "\n]"
    path = written(tmp_path, f"rows.{ending}", content)
    with pytest.raises(BadRow) as refused:
        read(path)
    assert refused.value.detail["kind"] == "half_surrogate"
    assert refused.value.detail["line"] == (2 if ending == "jsonl" else 3)
    assert pairs(read(path, on_bad_row="skip")) == [("whole 😀", "a")]


FOREIGN = [
    ("rows.pdf", b"%PDF-1.7\n...", "is a PDF document"),
    ("rows.csv", b"<!DOCTYPE html><html><body>404</body></html>", "is a web page.*downloaded"),
    ("rows.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
    ("rows.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}", "is a NumPy array"),
    ("rows.pkl", b"\x80\x04\x95\x10\x00\x00\x00", "is a pickle, which runs code"),
    ("rows.avro", b"Obj\x01\x04\x14avro.codec\x00", "is an Avro file"),
    ("rows.csv", b"\x00" * 257 + b"ustar\x0000", "is a tar archive"),
    ("rows.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:40], "is packed, and what is in it is broken or cut off"),
]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    FOREIGN,
)
def test_the_sentence_about_a_foreign_file_names_it(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read(written(tmp_path, name, content))


def test_of_a_zip_with_several_files_one_is_named_behind_a_colon(tmp_path: Path) -> None:
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("train.csv", CSV)
        packed.writestr("other.txt", "x")
    with pytest.raises(BadInput) as refused:
        read(path)
    assert refused.value.detail["expected"] == ["train.csv", "other.txt"]
    assert pairs(read(Path(f"{path}:train.csv"))) == ROWS


def test_a_cell_in_quotes_goes_on_over_lines_and_tabs(tmp_path: Path) -> None:
    content = 'text\tlabel\n"one\nmore ""line"""\ta\n"a\ttab"\tb\nb "plain" quote\tb\n"film\ta\nnext "film"\tb\n'
    assert pairs(read(written(tmp_path, "rows.tsv", content))) == [
        ('one\nmore "line"', "a"), ("a\ttab", "b"), ('b "plain" quote', "b"), ('"film', "a"), ('next "film"', "b"),
    ]  # fmt: skip


ODD_TEXTS = st.text(st.sampled_from("ab ,;|\"'é\n"), min_size=1, max_size=12).filter(str.strip)


@settings(deadline=None, max_examples=60)  # files are written and read
@given(st.lists(st.tuples(ODD_TEXTS, st.sampled_from("xy")), min_size=2, max_size=6), st.sampled_from(",;|\t"))
def test_what_a_csv_writer_writes_in_any_dialect_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, examples: list[tuple[str, str]], delimiter: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([NAMES, *examples])
    path = written(tmp_path_factory.mktemp("dialect"), "rows.csv", out.getvalue())
    assert pairs(read(path)) == examples


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(["text", "label", "more"]), JSON, min_size=1)


@settings(deadline=None, max_examples=60)  # files are written and read
@given(st.lists(OBJECTS, min_size=1, max_size=5), st.sampled_from([None, 1]), st.integers(1, 9))
def test_a_json_list_gives_its_elements_however_it_is_cut_into_pieces(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]], indent: int | None, size: int
) -> None:
    path = written(
        tmp_path_factory.mktemp("cursor"), "rows.json", json.dumps(values, indent=indent, ensure_ascii=False)
    )
    cursor = JsonCursor(open_text(path), size=size)
    assert [value for _, value in cursor.elements()] == values  # type: ignore[misc]


def test_a_json_list_that_breaks_off_is_a_bad_row_after_the_ones_before(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.json", json.dumps(objects(), indent=1)[:-30])
    with pytest.raises(BadRow) as refused:
        read(path)
    assert refused.value.detail["kind"] == "json"
    assert len(read(path, on_bad_row="skip").rows) == 2


def test_a_hint_of_json_fits_the_task(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.jsonl", '{"tokens": ["a"], "tags": ["B-X"]}\nnothing\n')
    with pytest.raises(BadRow) as refused:
        read(path, "tag")
    assert '"tokens": ' in refused.value.detail["way_out"]


CONLL = "# text = Ada takes vitamin B-12\nAda B-PER\ntakes O\n10\xa0000 O\nfri\u2028day O\n\n# O\nid O\n"
CONLLU = """# text = Ada lives
1-2\tAda lives\t_\t_\t_\t_\t_\t_\t_\t_
1\tAda\t_\tX\t_\t_\t0\t_\t_\tSpaceAfter=No|NER=B-PER
2\tlives\t_\tX\t_\t_\t0\t_\t_\tNER=O
"""


TAGGED_SHAPES: dict[str, tuple[str, str]] = {
    "conll-spaces": ("rows.txt", "Ada B-PER\nlives O\n\nBonn B-LOC\n"),
    "conll-tabs": ("rows.tsv", "Ada\tX\tB-PER\nlives\tX\tO\n\nBonn\tX\tB-LOC\n"),
    "conll-comments": (
        "rows.conll",
        "-DOCSTART- O\n\n# id = 1\n# text = Ada lives\nAda B-PER\nlives O\n\nBonn B-LOC\n",
    ),
    "conllu": ("rows.conllu", CONLLU + "\n1\tBonn\t_\t_\t_\t_\t_\t_\t_\tNER=B-LOC\n"),
}


@pytest.mark.parametrize("shape", TAGGED_SHAPES)
def test_every_shape_of_tagged_words_is_read_into_the_same_sentences(tmp_path: Path, shape: str) -> None:
    rows = read(written(tmp_path, *TAGGED_SHAPES[shape]), "tag").rows
    assert [(row.input["tokens"], row.tags) for row in rows] == [
        (["Ada", "lives"], ("B-PER", "O")),
        (["Bonn"], ("B-LOC",)),
    ]


def test_columns_of_conll_part_at_tabs_or_spaces_and_comments_are_no_words(tmp_path: Path) -> None:
    rows = read(written(tmp_path, "rows.txt", CONLL), "tag").rows
    assert [row.input["tokens"] for row in rows] == [["Ada", "takes", "10\xa0000", "fri\u2028day"], ["#", "id"]]
    with pytest.raises(BadRow) as refused:
        read(written(tmp_path, "rows.conll", "a O\n10 000 O\n"), "tag")
    assert [refused.value.detail[key] for key in ("line", "kind")] == [2, "width"]


def test_names_of_conllu_are_read_from_its_last_column(tmp_path: Path) -> None:
    rows = read(written(tmp_path, "rows.conllu", CONLLU), "tag")
    assert [(row.input["tokens"], row.tags) for row in rows.rows] == [(["Ada", "lives"], ("B-PER", "O"))]
    assert format_of(written(tmp_path, "rows.txt", CONLLU)) == "conllu"
    with pytest.raises(BadRow) as refused:
        read(tmp_path / "rows.conllu", "tag", label="ENT")
    assert refused.value.detail["kind"] == "no_tag"


ONE_HOT = "text,billing,repair,shipping,id\nlate,1,0,0,7\nlost,0,0,1,8\n"


def test_columns_of_zeros_and_ones_are_labels_and_told_so(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", ONE_HOT)
    rows = read(path)
    assert pairs(rows) == [("late", "billing"), ("lost", "shipping")]
    assert (rows.left_out, rows.columns["label"]) == (("id",), "billing,repair,shipping")
    assert "billing, repair, shipping" in rows.note
    assert read(path, label="billing,shipping").note == ""


def test_a_row_of_several_ones_has_several_labels_or_is_asked_about(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", ONE_HOT + "both,1,1,0,9\nnone,0,0,0,10\n")
    with pytest.raises(BadRow) as refused:
        read(path)
    assert refused.value.detail["kinds"] == {"one_hot": 2}
    rows = read(path, options={"multi_label": True})
    assert [row.labels for row in rows.rows[2:]] == [("billing", "repair"), ()]


TRANSLATED_SHAPES: dict[str, tuple[str, str]] = {
    "hf-translation": (
        "rows.jsonl",
        "\n".join(json.dumps({"translation": {"en": f"word {i}", "de": f"Wort {i}"}}) for i in range(3)),
    ),
}


def test_translations_by_language_are_read_from_the_first_into_the_second(tmp_path: Path) -> None:
    path = written(tmp_path, *TRANSLATED_SHAPES["hf-translation"])
    rows = read(path, "translate")
    assert (rows.rows[0].prompt, rows.rows[0].answer) == ("word 0", "Wort 0")
    assert "'en'" in rows.note
    turned = read(path, "translate", text="de")
    assert (turned.rows[0].prompt, turned.rows[0].answer) == ("Wort 0", "word 0")
    with pytest.raises(BadRow) as refused:
        read(path, "translate", text="fr", label="de")
    assert refused.value.detail["value"] == ["en", "de"]


def test_the_page_has_a_row_for_every_shape_that_a_test_reads() -> None:
    import ast

    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    named = re.findall(r"^\| `([\w-]+)` \|", page.partition("\n## Shapes")[2].partition("\n## ")[0], re.MULTILINE)
    shapes = []
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "").endswith("SHAPES"):
                assert isinstance(node.value, ast.Dict)
                shapes += [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
    assert sorted(named) == sorted(shapes)
    assert [form for form in FORMATS if f"`{form}`" not in page.partition("\n## Shapes")[0]] == []


SHAPE_TEXTS = [
    *(content for _, content in (*SHAPES.values(), *TAGGED_SHAPES.values()) if isinstance(content, str)),
    json.dumps({"data": [{"paragraphs": [{"context": "a b", "qas": [{"question": "q", "answers": []}]}]}]}),
    json.dumps([["a b", {"entities": [[0, 1, "X"]]}]]),
]


@settings(deadline=None, max_examples=60)  # files are written and read
@given(st.sampled_from(SHAPE_TEXTS), st.integers(0, 400), st.text('{}[]",:\n\t ;|0a\x00é😀', max_size=3))
def test_a_broken_document_is_refused_or_read_and_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, text: str, at: int, more: str
) -> None:
    """Cut at any place, with anything behind."""
    folder = tmp_path_factory.mktemp("broken")
    for name in ("rows.json", "rows.jsonl", "rows.txt"):
        path = written(folder, name, (text[:at] + more).encode())
        for task in ("classify", "tag", "answer", "chat"):
            with suppress(LlmosError):
                read_rows(str(path), Data(str(path)), task, {})
