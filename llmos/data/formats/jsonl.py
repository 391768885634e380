"""JSON lines: one object a line, each with its own fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.data.decoding import lines_of_file
from llmos.data.formats.source import Source
from llmos.data.table import Table, bad_row, table_of_objects

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


def open_file(source: Source, form: str) -> Table:
    """A column for every field; the row that lacks one has None there."""
    return table_of_objects(source.path, form, _objects(source.path))


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Json]] | BadRow]:
    for item in lines_of_file(path):
        if isinstance(item, BadRow):
            yield item
            continue
        number, line = item
        if not line.strip():
            continue
        try:
            found = _object(path, number, line)
        except BadRow as error:
            yield error
            continue
        yield number, found


def _object(path: Path, number: int, line: str) -> dict[str, Json]:
    def refuse(value: str) -> NoReturn:
        way_out = "Write null or leave the row out"
        raise bad_row(path, number, f"{value} is no value that JSON has", way_out, value, kind="json")

    try:
        found = json.loads(line, parse_constant=refuse)
    except (json.JSONDecodeError, RecursionError) as error:
        way_out = 'Each line is one object: {"text": "...", "label": "..."}'
        raise bad_row(path, number, f"not JSON ({error})", way_out, line, kind="json") from error
    if not isinstance(found, dict):
        way_out = 'Each line is one: {"text": "...", "label": "..."}'
        raise bad_row(path, number, "no JSON object", way_out, found, kind="json")
    return found
