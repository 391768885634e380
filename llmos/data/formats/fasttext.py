"""fastText: a row a line, its labels before its text, each with the prefix __label__."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.data.decoding import TextSource
from llmos.data.formats.source import Source
from llmos.data.table import Item, Record, Table, bad_row, table_of

PREFIX = "__label__"


def open_file(source: Source, form: str) -> Table:
    """A row a line: its text, and its label, or a list where it has several."""
    return table_of(source.path, form, ("text", "label"), _rows(source.as_text()))


def is_fasttext(lines: Sequence[str]) -> bool:
    """Whether every line that is not blank begins with a label."""
    filled = [line for line in lines if line.strip()]
    return bool(filled) and all(line.lstrip().startswith(PREFIX) for line in filled)


def _rows(text: TextSource) -> Iterator[Item]:
    for item in text.lines():
        if isinstance(item, BadRow):
            yield item
            continue
        line, said = item
        if not said.strip():
            continue
        labels, rest = _labels(said)
        if labels:
            label: Json = labels[0] if len(labels) == 1 else labels
            yield Record(line, (rest, label))
            continue
        way_out = f"A row is {PREFIX}NAME and the text"
        yield bad_row(text.path, line, f"no {PREFIX} at the line's start", way_out, said.strip(), kind="no_label")


def _labels(line: str) -> tuple[list[str], str]:
    """The labels at the line's start, and the text behind them."""
    labels = []
    rest = line.strip()
    while rest.startswith(PREFIX):
        first, *more = rest.split(None, 1)
        labels.append(first.removeprefix(PREFIX))
        rest = more[0] if more else ""
    return [label for label in labels if label], rest
