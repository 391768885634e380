"""A row: one checked, labelled example of any task, with its file and line."""

from __future__ import annotations

import json
from dataclasses import dataclass

from llmos.abi.json_type import Json


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to a question, any of them right, and where in the passage each starts; none: it does not say."""

    texts: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class WrittenText:
    """The text that is to be written; `message` is a chat's answer as JSON, where it is more than its text."""

    text: str
    message: str = ""

    @property
    def answer(self) -> Json:
        """As the task teaches it."""
        return json.loads(self.message) if self.message else self.text


Label = str | tuple[str, ...] | float | Answers | WrittenText


@dataclass(frozen=True, slots=True)
class Row:
    """One example: the task's checked input, and what is true of it.

    That is a label, labels, the IOB2 tags of its words, a score or grade of two texts, the answers to a question, or
    the text that is to be written.
    """

    input: Json
    label: Label
    file: str
    line: int

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels or tags, of a row that has several."""
        assert isinstance(self.label, tuple)
        return self.label


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one file, and how it was read."""

    rows: tuple[Row, ...]
    path: str
    format: str
    columns: dict[str, str]
    scheme: str = ""
    skipped: int = 0  # rows without a text, where the option skip_empty allows it
    note: str = ""  # which column was taken as what, where no name said it
