"""Tells a file's format by its content; by its name only where content does not tell. Knows what is no file of rows."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.row_path import split_part
from llmos.data.byte_source import HEAD_BYTES, ZIP, head_of, open_bytes
from llmos.data.decoding import TextSource, empty, open_text
from llmos.data.formats import conll, conllu, fasttext, squad
from llmos.data.formats.dialect import sniff

MAGIC = (
    (b"PAR1", "parquet"),
    (b"ARROW1\0\0", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),  # a stream: a continuation mark, then the schema's size
    (b"SQLite format 3\0", "sqlite"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "excel"),  # .xls: a compound file
)
# What is not read: how it begins, what it is, and what to do.
FOREIGN = (
    (b"%PDF-", "a PDF document", "Copy its table into a sheet, and save that as CSV"),
    (b"{\\rtf", "a Rich Text document", "Save it as plain text"),
    (b"\x93NUMPY", "a NumPy array", "Write its rows as CSV or JSON lines"),
    (b"\x89HDF", "an HDF5 file", "Write its table as Parquet: pandas.read_hdf(...).to_parquet(...)"),
    (b"Obj\x01", "an Avro file", "Write its rows as Parquet or JSON lines"),
    (b"ORC", "an ORC file", "Write its rows as Parquet: pyarrow.orc.read_table(...)"),
    (b"FEA1", "a Feather file of version 1", "Write it anew: pandas.read_feather(...).to_parquet(...)"),
    (b"GGUF", "a GGUF model", "Give rows; a model is brought in with llmos pull"),
    (b"$FL2", "an SPSS file", "Save it as CSV"),
    (b"<stata_dta>", "a Stata file", "Save it as CSV"),
    (b"RDX", "an R data file", "Save it in R: write.csv(rows, 'rows.csv', row.names = FALSE)"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "Unpack it, and give the file that is in it"),
    (b"Rar!", "a RAR archive", "Unpack it, and give the file that is in it"),
    (b"\x89PNG", "a picture", "Give labelled texts"),
    (b"\xff\xd8\xff", "a picture", "Give labelled texts"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Fetch it: git lfs pull"),
    (b"<!DOCTYPE", "a web page", "If it was downloaded, the address gave a page instead of the file"),
    (b"<!doctype", "a web page", "If it was downloaded, the address gave a page instead of the file"),
    (b"<html", "a web page", "If it was downloaded, the address gave a page instead of the file"),
    (b"<?xml", "XML", "Write its rows as CSV or JSON lines"),
)
PICKLE = re.compile(rb"\x80[\x02-\x05]")
JSON_START = re.compile(r'\s*(\{\s*["}]|\[\s*[\[{"\]\d-])')
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
DELIMITED_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv"}
PACKING_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")
MOST_HEAD = 8 * 1024 * 1024  # of a file without a line's end
LEAST_SHARE = 0.8  # of rows of one width, where no name says that a file is delimited


@dataclass(frozen=True, slots=True)
class DetectedFormat:
    """The format of a file, and its text where it is one of text."""

    form: str
    text: TextSource | None = None


def detect_format(path: Path, encoding: str | None, known: Iterable[str]) -> DetectedFormat:
    """By the first bytes, then by the first lines, then by the name; BadInput with a way out for what is not read."""
    name, part = split_part(str(path))
    if Path(name).is_dir():
        return DetectedFormat(_folder_format(Path(name)))
    if Path(name).exists() and not Path(name).is_file():
        raise BadInput(
            f"{name} is a device or a pipe, which may never end. Write its rows to a file, and give that",
            file=name,
            value="device",
        )
    head = head_of(path)
    if not head:
        raise empty(path)
    form = _binary_format(path, head)
    if form is not None:
        return DetectedFormat(form)
    text = open_text(path, encoding)
    form = _text_format(text, head, _suffix(part or name))
    if form is None:
        plain = " A plain text, a text a line, has no labels: llmos data import --unlabelled FILE"
        said = f"{path}: its format cannot be told from its name or its start. Name it: {', '.join(known)}."
        raise BadInput(
            said + plain * (_suffix(part or name) == ".txt"),
            file=str(path),
            expected=list(known),
        )
    return DetectedFormat(form, text)


def _suffix(name: str) -> str:
    stem = name.lower()
    for ending in PACKING_SUFFIXES:
        stem = stem.removesuffix(ending)
    return Path(stem).suffix


def _folder_format(folder: Path) -> str:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return "dataset"
    files = sorted(one.name for one in folder.iterdir() if one.is_file())
    raise BadInput(
        f"{folder} is a folder, and none that datasets has written with save_to_disk. Name a file in it: "
        f"{', '.join(files[:8]) or 'there is none'}",
        file=str(folder),
        value="folder",
    )


def _binary_format(path: Path, head: bytes) -> str | None:
    for magic, form in MAGIC:
        if head.startswith(magic):
            return form
    if head.startswith(ZIP):
        return _document_format(path)
    for magic, what, way_out in FOREIGN:
        if head.startswith(magic) and (b"\0" in head or len(magic) > 4):
            raise _foreign(path, what, way_out)
    if PICKLE.match(head):
        raise _foreign(path, "a pickle, which runs code when it is read", "Write its rows as JSON lines or Parquet")
    if head[257:262] == b"ustar":
        raise _foreign(path, "a tar archive", "Unpack it, and give the file that is in it")
    return None


def _document_format(path: Path) -> str:
    """What a zip that is no mere packing holds."""
    with open_bytes(path) as file, zipfile.ZipFile(file) as packed:
        names = packed.namelist()
        kind = packed.read("mimetype").decode("ascii", "replace") if "mimetype" in names else ""
    if any(name.startswith("xl/") for name in names) or "spreadsheet" in kind:
        return "excel"
    what, way_out = "a zip of NumPy arrays or of a model's weights", "Write the rows as CSV or JSON lines"
    if any(name.startswith("word/") for name in names) or "text" in kind:
        what, way_out = "a Word or Writer document", "Copy its table into a sheet, and save that as CSV"
    elif any(name.startswith("ppt/") for name in names) or "presentation" in kind:
        what, way_out = "a presentation", "Copy its table into a sheet, and save that as CSV"
    raise _foreign(path, what, way_out)


def _foreign(path: Path, what: str, way_out: str) -> BadInput:
    return BadInput(f"{path} is {what}. It holds no rows that llmos reads. {way_out}", file=str(path), value=what)


def _text_format(text: TextSource, head: bytes, suffix: str) -> str | None:
    start = _start(text, head)
    is_whole = len(head) < HEAD_BYTES
    lines = start.replace("\r", "\n").split("\n") if text.detection.ends_at_cr else start.split("\n")
    lines = lines if is_whole or len(lines) == 1 else lines[:-1]
    is_bracket = suffix in conll.SUFFIXES and conll.is_conll(lines, least=1)  # the first word of a sentence
    if suffix in JSON_SUFFIXES or (JSON_START.match(start) and not is_bracket):
        return _json_format(text, start, suffix, is_whole=is_whole)
    if conllu.is_conllu(lines):
        return "conllu"
    if suffix in conll.SUFFIXES:
        return "conll"
    if fasttext.is_fasttext(lines):
        return "fasttext"
    if conll.is_conll(lines, needs_blank=suffix in DELIMITED_SUFFIXES):
        return "conll"
    if suffix in DELIMITED_SUFFIXES:
        return DELIMITED_SUFFIXES[suffix]
    dialect = sniff(lines, lambda cell: False, LEAST_SHARE)
    return None if dialect is None else "tsv" if dialect.delimiter == "\t" else "csv"


def _start(text: TextSource, head: bytes) -> str:
    return head.decode(text.codec, "replace").removeprefix("\ufeff")


def _json_format(text: TextSource, start: str, suffix: str, *, is_whole: bool) -> str:
    """json for one document, jsonl for an object a line."""
    if squad.is_squad(start):
        return "squad"
    start = start.lstrip()
    lines = [line for line in start.split("\n", 3) if line.strip()]
    if start.startswith("["):
        return "jsonl" if len(lines) > 1 and lines[1].startswith("[") and _is_json(lines[0]) else "json"
    try:
        found, end = json.JSONDecoder().raw_decode(start)
    except (json.JSONDecodeError, RecursionError):
        if is_whole or not start.startswith("{"):
            is_document = start.startswith("{") and not start.partition("\n")[0].rstrip().endswith("}")
            return "json" if suffix == ".json" and is_document else "jsonl"
        if "\n" in start:
            return "jsonl" if start.partition("\n")[0].rstrip().endswith("}") else "json"
        return _long_line_format(text, suffix)
    if start[end:].strip():
        return "json" if "\n" in start[:end] else "jsonl"
    is_plain = not any(isinstance(value, (list, dict)) for value in found.values()) if isinstance(found, dict) else True
    return "jsonl" if is_plain or suffix in (".jsonl", ".ndjson") else "json"


def _long_line_format(text: TextSource, suffix: str) -> str:
    """Of a first line that is longer than a head: an object a line, or one object on one line."""
    with open_bytes(text.path) as file:
        start = _start(text, file.read(MOST_HEAD)).lstrip()
    line, end, rest = start.partition("\n")
    return "jsonl" if end and rest.strip() and _is_json(line) else "jsonl" if suffix == ".jsonl" else "json"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
