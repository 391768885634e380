"""Formats that are no text: Parquet, Arrow, a saved dataset, Excel and SQLite, with the names of their classes."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmos.abi.error import BadInput, BadRow, PathNotAllowed
from llmos.abi.recipe import Data
from llmos.abi.roots import restrict
from llmos.data.dataset import gather
from llmos.data.formats import format_of
from llmos.data.reader import read_rows
from llmos.data.row import Rows

ROWS = [("late again", "billing"), ("two words", "shipping"), ("a café", "billing")]
NAMES = ("billing", "shipping")
HAS_CALAMINE = importlib.util.find_spec("python_calamine") is not None


def read(path: Path | str, task: str = "classify", **how: object) -> Rows[Any]:
    return read_rows(str(path), Data(str(path), **how), task, {})  # type: ignore[arg-type]


def pairs(rows: Rows[Any]) -> list[tuple[str, ...]]:
    return [(row.input["text"], *row.labels) for row in rows.rows]


def features(kind: str = "ClassLabel") -> dict[str, Any]:
    label = {"names": list(NAMES), "_type": kind}
    return {"text": {"dtype": "string", "_type": "Value"}, "label": label}


def table(rows: list[tuple[str, str]] = ROWS, *, is_numbered: bool = False) -> pa.Table:
    """The rows; with numbers for labels, and their names in the schema as `datasets` writes them."""
    labels = [NAMES.index(label) if is_numbered else label for _, label in rows]
    made = pa.table({"text": [text for text, _ in rows], "label": labels})
    metadata = {"huggingface": json.dumps({"info": {"features": features()}})}
    return made.replace_schema_metadata(metadata) if is_numbered else made


def parquet(folder: Path) -> Path:
    pq.write_table(table(), folder / "rows")
    return folder / "rows"


def parquet_classes(folder: Path) -> Path:
    pq.write_table(table(is_numbered=True), folder / "rows.parquet")
    return folder / "rows.parquet"


def parquet_index(folder: Path) -> Path:
    pq.write_table(table().append_column("__index_level_0__", pa.array([5, 7, 9])), folder / "rows.parquet")
    return folder / "rows.parquet"


def arrow_file(folder: Path) -> Path:
    with pa.OSFile(str(folder / "rows.feather"), "wb") as out, pa.ipc.new_file(out, table().schema) as writer:
        writer.write_table(table(), max_chunksize=2)
    return folder / "rows.feather"


def arrow_stream(folder: Path, name: str = "rows.arrow", rows: list[tuple[str, str]] = ROWS) -> Path:
    made = table(rows, is_numbered=True)
    with pa.OSFile(str(folder / name), "wb") as out, pa.ipc.new_stream(out, made.schema) as writer:
        writer.write_table(made)
    return folder / name


def saved(folder: Path, rows: list[tuple[str, str]] = ROWS) -> Path:
    """As save_to_disk writes one dataset, in two files."""
    folder.mkdir(exist_ok=True)
    files = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(files, (rows[:1], rows[1:]), strict=True):
        arrow_stream(folder, name, part)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features()}))
    return folder


def saved_splits(folder: Path) -> Path:
    for name in ("train", "validation", "test"):
        saved(folder / name)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test"]}))
    return folder


def database(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "rows.db")) as base:
        base.execute("CREATE TABLE tickets (text TEXT, label TEXT)")
        base.executemany("INSERT INTO tickets VALUES (?, ?)", ROWS)
        base.commit()
    return folder / "rows.db"


OFFICE = "http://schemas.openxmlformats.org"
MAIN = f"{OFFICE}/spreadsheetml/2006/main"
PACKAGE = f"{OFFICE}/package/2006"
RELATION = f"{OFFICE}/officeDocument/2006/relationships"
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"
DOCUMENT = "urn:oasis:names:tc:opendocument:xmlns"


def element(name: str, /, *inside: str, **attributes: str) -> str:
    """XML; a colon in the name of an attribute is written as two underscores."""
    said = "".join(f' {key.replace("__", ":")}="{value}"' for key, value in attributes.items())
    return f"<{name}{said}>{''.join(inside)}</{name}>"


def sheet(rows: list[tuple[str, str]]) -> str:
    """The XML of a sheet; the first row is its header."""
    lines = []
    for n, row in enumerate([("text", "label"), *rows], 1):
        cells = [
            element("c", element("is", element("t", cell)), r=f"{letter}{n}", t="inlineStr")
            for letter, cell in zip("AB", row, strict=True)
        ]
        lines.append(element("row", *cells, r=str(n)))
    return element("worksheet", element("sheetData", *lines), xmlns=MAIN)


def xlsx(folder: Path) -> Path:
    """A workbook of two sheets, in the parts that Office Open XML asks for."""
    numbered = list(enumerate(("Mail", "More"), 1))
    sheets = [element("sheet", name=name, sheetId=str(i), r__id=f"r{i}") for i, name in numbered]
    links = [
        element("Relationship", Id=f"r{i}", Type=f"{RELATION}/worksheet", Target=f"worksheets/sheet{i}.xml")
        for i, _ in numbered
    ]
    parts = {"/xl/workbook.xml": "sheet.main", **{f"/xl/worksheets/sheet{i}.xml": "worksheet" for i, _ in numbered}}
    types = [element("Override", PartName=part, ContentType=f"{KIND}.{kind}+xml") for part, kind in parts.items()]
    rels = "application/vnd.openxmlformats-package.relationships+xml"
    types.insert(0, element("Default", Extension="rels", ContentType=rels))
    root = element("Relationship", Id="r1", Type=f"{RELATION}/officeDocument", Target="xl/workbook.xml")
    with zipfile.ZipFile(folder / "rows.xlsx", "w") as out:
        out.writestr("[Content_Types].xml", element("Types", *types, xmlns=f"{PACKAGE}/content-types"))
        out.writestr("_rels/.rels", element("Relationships", root, xmlns=f"{PACKAGE}/relationships"))
        out.writestr("xl/workbook.xml", element("workbook", element("sheets", *sheets), xmlns=MAIN, xmlns__r=RELATION))
        out.writestr("xl/_rels/workbook.xml.rels", element("Relationships", *links, xmlns=f"{PACKAGE}/relationships"))
        out.writestr("xl/worksheets/sheet1.xml", sheet(ROWS))
        out.writestr("xl/worksheets/sheet2.xml", sheet([("other", "a"), ("rows", "b")]))
    return folder / "rows.xlsx"


def ods(folder: Path) -> Path:
    """A sheet of OpenDocument."""
    spaces = {f"xmlns__{name}": f"{DOCUMENT}:{name}:1.0" for name in ("office", "table", "text")}
    lines = [
        element(
            "table:table-row",
            *(element("table:table-cell", element("text:p", cell), office__value_type="string") for cell in row),
        ).replace("value_type", "value-type")
        for row in [("text", "label"), *ROWS]
    ]
    made = element("table:table", *lines, table__name="Mail")
    body = element("office:body", element("office:spreadsheet", made))
    with zipfile.ZipFile(folder / "rows.ods", "w") as out:
        out.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        space = {"xmlns__manifest": f"{DOCUMENT}:manifest:1.0"}
        out.writestr("META-INF/manifest.xml", element("manifest:manifest", **space))
        out.writestr("content.xml", element("office:document-content", body, **spaces))
    return folder / "rows.ods"


SHAPES: dict[str, Callable[[Path], Path]] = {
    "parquet": parquet,
    "parquet-class-names": parquet_classes,
    "parquet-pandas-index": parquet_index,
    "arrow-file": arrow_file,
    "arrow-stream": arrow_stream,
    "saved-dataset": saved,
    "saved-dataset-splits": saved_splits,
    "sqlite": database,
    "xlsx": xlsx,
    "ods": ods,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_binary_shape_of_the_page_is_read_into_the_same_rows(tmp_path: Path, shape: str) -> None:
    if shape in ("xlsx", "ods") and not HAS_CALAMINE:
        pytest.skip("needs the extra excel")
    assert pairs(read(SHAPES[shape](tmp_path))) == ROWS


def test_numbers_of_classes_become_the_names_that_the_user_gives(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nlate,0\nlost,1\nwrong,2\n")
    with pytest.raises(BadRow) as refused:
        read(tmp_path / "rows.csv", class_names="billing,shipping")
    assert [refused.value.detail[key] for key in ("line", "kind")] == [4, "class_number"]
    rows = read(tmp_path / "rows.csv", class_names="billing, shipping, repair")
    assert pairs(rows) == [("late", "billing"), ("lost", "shipping"), ("wrong", "repair")]


def test_numbers_of_tags_become_names_too(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"tokens": ["Ada", "lives"], "ner_tags": [1, 0]}')
    (row,) = read(tmp_path / "rows.jsonl", "tag", class_names="O,B-PER,I-PER").rows
    assert row.tags == ("B-PER", "O")
    names = {"names": ["O", "B-PER", "I-PER"], "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"ner_tags": {"feature": names, "_type": "List"}}}})}
    made = pa.table({"tokens": [["Ada", "lives"]], "ner_tags": [[1, 0]]}).replace_schema_metadata(metadata)
    pq.write_table(made, tmp_path / "rows.parquet")
    (row,) = read(tmp_path / "rows.parquet", "tag").rows
    assert row.tags == ("B-PER", "O")


def test_the_splits_of_a_saved_dataset_are_used_as_such(tmp_path: Path) -> None:
    loaded = gather(Data(str(saved_splits(tmp_path))), "classify", {}, {})
    assert loaded.counts() == {"train": 3, "validation": 3, "test": 3}
    assert str(loaded.sources["test"]["path"]) == f"{tmp_path}:test"
    assert pairs(read(f"{tmp_path}:test")) == ROWS


def test_a_folder_that_is_no_dataset_is_named_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n")
    with pytest.raises(BadInput) as refused:
        read(tmp_path)
    assert refused.value.detail["value"] == "folder"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = database(tmp_path)
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("CREATE TABLE others (note TEXT)")
        opened.commit()
    return path


def test_a_table_of_a_database_is_named_or_asked_for(base: Path) -> None:
    assert pairs(read(f"{base}:tickets")) == ROWS
    with pytest.raises(BadInput) as refused:
        read(base)
    assert refused.value.detail["expected"] == ["others", "tickets"]
    query = "SELECT upper(text) AS text, label FROM tickets WHERE label = 'shipping'"
    assert pairs(read(base, query=query)) == [("TWO WORDS", "shipping")]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM tickets",
        "SELECT text, label FROM tickets; DROP TABLE tickets",
        "ATTACH DATABASE '/tmp/x.db' AS x",
        "PRAGMA journal_mode = wal",
        "SELECT load_extension('x') AS text, 1 AS label",
        "not a query",
    ],
)
def test_a_query_reads_alone(base: Path, query: str) -> None:
    before = base.read_bytes()
    with pytest.raises(BadInput):
        read(base, query=query)
    assert base.read_bytes() == before


@pytest.mark.parametrize("shape", ["sqlite", "saved-dataset", "parquet-class-names", "arrow-stream", "xlsx"])
def test_no_format_opens_what_lies_outside_of_the_allowed_folders(tmp_path: Path, shape: str) -> None:
    if shape == "xlsx" and not HAS_CALAMINE:
        pytest.skip("needs the extra excel")
    (tmp_path / "secret").mkdir()
    (tmp_path / "root").mkdir()
    real = SHAPES[shape](tmp_path / "secret")
    link = tmp_path / "root" / real.name
    link.symlink_to(real)
    restrict([str(tmp_path / "root")])
    try:
        with pytest.raises(PathNotAllowed):
            read(link)
    finally:
        restrict(())


def test_old_excel_files_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + struct.pack("<504x"))
    assert format_of(tmp_path / "rows") == "excel"


@pytest.mark.skipif(not HAS_CALAMINE, reason="needs the extra excel")
def test_a_sheet_is_named_behind_a_colon_and_the_others_are_noted(tmp_path: Path) -> None:
    path = xlsx(tmp_path)
    assert pairs(read(f"{path}:More")) == [("other", "a"), ("rows", "b")]
    assert "More" in read(path).notes[0]
    with pytest.raises(BadInput) as refused:
        read(f"{path}:Third")
    assert refused.value.detail["expected"] == ["Mail", "More"]


@pytest.mark.skipif(HAS_CALAMINE, reason="is about a box without the extra excel")
def test_without_its_reader_a_sheet_is_named_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        read(xlsx(tmp_path))
    assert refused.value.detail["value"] == "python-calamine"
