"""SQuAD's JSON, versions 1 and 2: one object whose questions stand below topics and paragraphs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from llmos.data.decoding import text_of_file
from llmos.data.formats.source import Source
from llmos.data.table import Record, Table, bad_row, table_of

SUFFIXES: dict[str, str] = {}
NAMES = ("question", "context", "answers")
SHAPE = '{"data": [{"paragraphs": [{"context", "qas": [{"question", "answers": [{"text", "answer_start"}]}]}]}]}'


def open_file(source: Source, form: str) -> Table:
    """A row for every question; its number in the file stands for a line."""
    table = table_of(source.path, form, NAMES, _questions(source.path))
    if not table.sample:
        way_out = "SQuAD's JSON has them in data, paragraphs, qas"
        raise bad_row(source.path, 1, "the file has no questions", way_out, kind="no_rows")
    return table


def is_squad(path: Path) -> bool:
    """One object with `data`, rather than an object a line."""
    text = text_of_file(path).lstrip()
    first = text.partition("\n")[0].rstrip()
    return text.startswith("{") and '"data"' in text[:4096] and not (first.endswith("}") and "\n" in text.strip())


def _questions(path: Path) -> Iterator[Record]:
    number = 0
    try:
        whole = json.loads(text_of_file(path))
        for topic in whole["data"]:
            for paragraph in topic["paragraphs"]:
                for asked in paragraph["qas"]:
                    number += 1
                    answers = [] if asked.get("is_impossible") else asked["answers"]
                    yield Record(number, (asked["question"], paragraph["context"], answers))
    except json.JSONDecodeError as error:
        way_out = "Give SQuAD's own JSON, or json lines"
        raise bad_row(path, error.lineno, f"not JSON ({error})", way_out, kind="json") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise bad_row(
            path,
            max(1, number),
            f"not as SQuAD has it ({type(error).__name__}: {error}); the line counts questions",
            f"It is {SHAPE}",
            kind="squad",
        ) from error
