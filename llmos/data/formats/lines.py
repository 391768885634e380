"""Plain text: a text a line. Such rows have no labels."""

from __future__ import annotations

from collections.abc import Iterator

from llmos.abi.error import BadRow
from llmos.data.decoding import TextSource
from llmos.data.formats.source import Source
from llmos.data.table import Item, Record, Table, table_of

NAME = "lines"
SUFFIX = ".txt"


def open_file(source: Source, form: str) -> Table:
    """A row for each line that is not blank."""
    return table_of(source.path, form, ("text",), _rows(source.as_text()))


def _rows(text: TextSource) -> Iterator[Item]:
    for item in text.lines():
        if isinstance(item, BadRow):
            yield item
            continue
        line, said = item
        if said.strip():
            yield Record(line, (said.strip(),))
