"""File formats, one file each: opens a file as a table, in the format that it is detected to have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from llmos.abi.error import BadInput
from llmos.abi.recipe import Data
from llmos.data.columns import is_known, is_nearly_known
from llmos.data.decoding import open_text
from llmos.data.formats import (
    arrow,
    conll,
    conllu,
    delimited,
    excel,
    fasttext,
    json_document,
    jsonl,
    lines,
    parquet,
    saved_dataset,
    sqlite,
    squad,
)
from llmos.data.formats.detect import DetectedFormat, detect_format
from llmos.data.formats.source import EXAMPLE, Source
from llmos.data.table import Table

OF_TEXT = frozenset({"csv", "tsv", "jsonl", "json", "conll", "conllu", "fasttext", "squad", lines.NAME})


class Format(Protocol):
    """What a format's file has; a new format is a new file and a line in FORMATS."""

    def open_file(self, source: Source, form: str) -> Table:
        """The file as a table; BadRow or BadInput if nothing in it can be read."""
        ...


FORMATS: Mapping[str, Format] = {
    "csv": delimited,
    "tsv": delimited,
    "jsonl": jsonl,
    "json": json_document,
    "parquet": parquet,
    "arrow": arrow,
    "dataset": saved_dataset,
    "excel": excel,
    "sqlite": sqlite,
    "conll": conll,
    "conllu": conllu,
    "fasttext": fasttext,
    "squad": squad,
    lines.NAME: lines,
}


def format_of(path: Path, encoding: str | None = None) -> str:
    """By what is in the file, else by the name's ending."""
    return detect_format(path, encoding, FORMATS).form


def open_table(path: Path, data: Data, names: Collection[str] = (), example: str = EXAMPLE) -> Table:
    """The file as a table, whatever is in it; `names` are those of columns, besides the ones that every task knows, and
    `example` is a row of the task, for messages."""
    if data.format is not None and data.format not in FORMATS:
        known = list(FORMATS)
        raise BadInput(f"No format {data.format!r}. There are: {', '.join(known)}", format=data.format, expected=known)
    found = DetectedFormat(data.format) if data.format else detect_format(path, data.encoding, FORMATS)
    named = {name.lower() for name in (data.text, data.label) if name and not name.isdecimal()}
    named |= {part.strip() for name in named for part in name.split(",")} | set(names)

    def is_name(cell: str) -> bool:
        return is_known(cell) or cell.lower() in named

    source = Source(path, data, is_name, is_nearly_known, example, found.text)
    if found.text is None and found.form in OF_TEXT:
        source = replace(source, text=open_text(path, data.encoding))
    table = FORMATS[found.form].open_file(source, found.form)
    if source.text is not None:
        table.encoding = source.text.encoding
        table.notes = (*source.text.notes, *table.notes)
    return table
