"""JSON lines: one object a line, each with its own fields."""

from __future__ import annotations

import json
from collections.abc import Iterator

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.data.formats.source import Source
from llmos.data.json_cursor import refuse_half_pairs
from llmos.data.table import Table, bad_row, table_of_objects


def open_file(source: Source, form: str) -> Table:
    """A column for every field; the row that lacks one has None there."""
    return table_of_objects(source.path, form, _objects(source))


def _objects(source: Source) -> Iterator[tuple[int, dict[str, Json]] | BadRow]:
    odd: list[str] = []  # NaN and the like in the line at hand, which JSON does not have
    decoder = json.JSONDecoder(parse_constant=odd.append)  # one for all lines: it is made slowly
    for item in source.as_text().lines():
        if isinstance(item, BadRow):
            yield item
            continue
        number, line = item
        if not line.strip():
            continue
        odd.clear()
        try:
            found = _object(source, number, line, decoder)
            if odd:
                way_out = "Write null or leave the row out"
                raise bad_row(source.path, number, f"{odd[0]} is no value that JSON has", way_out, odd[0], kind="json")
        except BadRow as error:
            yield error
            continue
        yield number, found


def _object(source: Source, number: int, line: str, decoder: json.JSONDecoder) -> dict[str, Json]:
    path, way_out = source.path, f"Each line is one object: {source.example}"
    try:
        found = decoder.decode(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise bad_row(path, number, f"not JSON ({error})", way_out, line, kind="json") from error
    if not isinstance(found, dict):
        raise bad_row(path, number, "no JSON object", way_out, found, kind="json")
    if "\\u" in line:
        refuse_half_pairs(path, number, found)
    return found
