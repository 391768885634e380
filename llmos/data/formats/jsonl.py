"""JSON lines: one object a line, each with its own fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NoReturn

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.data.formats.source import Source
from llmos.data.json_cursor import refuse_half_pairs
from llmos.data.table import Table, bad_row, table_of_objects


def open_file(source: Source, form: str) -> Table:
    """A column for every field; the row that lacks one has None there."""
    return table_of_objects(source.path, form, _objects(source))


def _objects(source: Source) -> Iterator[tuple[int, dict[str, Json]] | BadRow]:
    for item in source.as_text().lines():
        if isinstance(item, BadRow):
            yield item
            continue
        number, line = item
        if not line.strip():
            continue
        try:
            found = _object(source, number, line)
        except BadRow as error:
            yield error
            continue
        yield number, found


def _object(source: Source, number: int, line: str) -> dict[str, Json]:
    path, way_out = source.path, f"Each line is one object: {source.example}"

    def refuse(value: str) -> NoReturn:
        raise bad_row(
            path, number, f"{value} is no value that JSON has", "Write null or leave the row out", value, kind="json"
        )

    try:
        found = json.loads(line, parse_constant=refuse)
    except (json.JSONDecodeError, RecursionError) as error:
        raise bad_row(path, number, f"not JSON ({error})", way_out, line, kind="json") from error
    if not isinstance(found, dict):
        raise bad_row(path, number, "no JSON object", way_out, found, kind="json")
    if "\\u" in line:
        refuse_half_pairs(path, number, found)
    return found
