"""SQuAD's JSON, versions 1 and 2: one object whose questions stand below topics and paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.data.formats.source import Source
from llmos.data.json_cursor import JsonCursor
from llmos.data.table import Item, Record, Table, bad_row, table_of

NAMES = ("question", "context", "answers")
SHAPE = '{"data": [{"paragraphs": [{"context", "qas": [{"question", "answers": [{"text", "answer_start"}]}]}]}]}'
START = re.compile(r'\s*\{\s*("version"\s*:\s*"[^"]*"\s*,\s*)?"data"\s*:\s*\[')


def open_file(source: Source, form: str) -> Table:
    """A row for every question; its number in the file stands for a line. One topic is in memory at a time."""
    table = table_of(source.path, form, NAMES, _questions(source))
    if not table.sample:
        for item in table:
            if isinstance(item, BadRow):
                raise item
        way_out = "SQuAD's JSON has them in data, paragraphs, qas"
        raise bad_row(source.path, 1, "the file has no questions", way_out, kind="no_rows")
    return table


def is_squad(start: str) -> bool:
    """Whether a file begins as SQuAD's JSON: an object whose data has paragraphs."""
    return START.match(start) is not None and '"paragraphs"' in start


def _questions(source: Source) -> Iterator[Item]:
    cursor = JsonCursor(source.as_text(), "Give SQuAD's own JSON, or json lines")
    number = 0
    has_data = False
    for key in cursor.members():
        if key != "data":
            cursor.value()
            continue
        has_data = True
        for topic in cursor.elements():
            if isinstance(topic, BadRow):
                yield topic
                continue
            for question in _of_topic(source, topic[1], number):
                number += 1
                yield question
    if not has_data:
        raise _unlike(source, 1, KeyError("data"))


def _of_topic(source: Source, topic: Json, number: int) -> Iterator[Record]:
    try:
        for paragraph in topic["paragraphs"]:
            for asked in paragraph["qas"]:
                number += 1
                answers = [] if asked.get("is_impossible") else asked["answers"]
                yield Record(number, (asked["question"], paragraph["context"], answers))
    except (KeyError, TypeError, AttributeError) as error:
        raise _unlike(source, max(1, number), error) from error


def _unlike(source: Source, number: int, error: Exception) -> BadRow:
    return bad_row(
        source.path,
        number,
        f"not as SQuAD has it ({type(error).__name__}: {error}); the line counts questions",
        f"It is {SHAPE}",
        kind="squad",
    )
