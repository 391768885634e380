"""Rows: one checked, labelled example with its file and line, of a type for each family of tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from llmos.abi.json_type import Json
from llmos.tasks.tag import OUTSIDE


class Row(Protocol):
    """What the rows of all families have: the task's checked input, and where it stands."""

    @property
    def input(self) -> Json: ...
    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def texts(self) -> list[str]:
        """The texts of the input, first the one that several rows may share."""
        ...

    @property
    def kinds(self) -> set[str]:
        """The labels that a stratified split has its share of; none where rows have no labels."""
        ...

    @property
    def target(self) -> str:
        """What is to be learned, as text: equal for rows of equal targets."""
        ...

    @property
    def identity(self) -> str:
        """Input and target as the digest of the data has them: another text here, and no old checkpoint resumes."""
        ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A text and its label, or all of its labels where a text may have many; an unlabelled row has none."""

    input: Json
    labels: tuple[str, ...]
    file: str
    line: int
    is_multi: bool = False

    @property
    def texts(self) -> list[str]:
        return [self.input["text"]]

    @property
    def kinds(self) -> set[str]:
        return set(self.labels)

    @property
    def column(self) -> Json:
        """As a stored dataset's column has it."""
        return list(self.labels) if self.is_multi else next(iter(self.labels), None)

    @property
    def target(self) -> str:
        return repr(self.labels if self.is_multi else self.column)

    @property
    def identity(self) -> str:
        return _identity(self.input, self.target)


@dataclass(frozen=True, slots=True)
class TagRow:
    """Words and their IOB2 tags; where they came as a text, that text and its spans as (start, end, label).

    Training reads the tags, evaluation the spans: a span that parts a word is learned as whole words. An unlabelled row
    has no tags.
    """

    input: Json
    tags: tuple[str, ...]
    file: str
    line: int
    text: str | None = None
    spans: tuple[tuple[int, int, str], ...] | None = None

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Where each word stands in the text; in the words joined by spaces, where there is none."""
        offsets, at = [], 0
        for word in self.input["tokens"]:
            at = at if self.text is None else self.text.index(word, at)
            offsets.append((at, at + len(word)))
            at += len(word) + (self.text is None)
        return offsets

    @property
    def texts(self) -> list[str]:
        return [" ".join(self.input["tokens"])]

    @property
    def kinds(self) -> set[str]:
        """The kinds of its entities, or O where it has none; nothing where nobody has tagged it."""
        return {tag[2:] for tag in self.tags if tag != OUTSIDE} or ({OUTSIDE} if self.tags else set())

    @property
    def target(self) -> str:
        return repr(self.tags)

    @property
    def identity(self) -> str:
        return _identity(self.input, self.target)


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A question about a passage, its answers, any of them right, and where each starts; none: it does not say."""

    input: Json
    answers: tuple[str, ...]
    starts: tuple[int, ...]
    file: str
    line: int

    @property
    def texts(self) -> list[str]:
        return [self.input["passage"], self.input["question"]]

    @property
    def kinds(self) -> set[str]:
        return set()

    @property
    def target(self) -> str:
        return f"Answers(texts={self.answers!r}, starts={self.starts!r})"

    @property
    def identity(self) -> str:
        return _identity(self.input, self.target)


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two texts, or a query and its documents, and a number: their score or grade."""

    input: Json
    score: float
    file: str
    line: int

    @property
    def texts(self) -> list[str]:
        first, second = self.input.values()
        return [first, *(second if isinstance(second, list) else [second])]

    @property
    def kinds(self) -> set[str]:
        return set()

    @property
    def target(self) -> str:
        return repr(self.score)

    @property
    def identity(self) -> str:
        return _identity(self.input, self.target)


@dataclass(frozen=True, slots=True)
class TextRow:
    """A prompt and its answer; `message` is a chat's answer as JSON, where it is more than its text."""

    input: Json
    answer: str
    file: str
    line: int
    message: str = ""

    @property
    def prompt(self) -> str:
        """What is answered: the text, or a conversation's last message."""
        messages = self.input.get("messages")
        return str(messages[-1]["content"] if messages else next(iter(self.input.values())))

    @property
    def completion(self) -> Json:
        """The answer as the task renders it to train on."""
        return json.loads(self.message) if self.message else self.answer

    @property
    def texts(self) -> list[str]:
        messages = self.input.get("messages")
        if messages is None:
            return [next(iter(self.input.values()))]
        return [" | ".join(str(one["content"]) for one in messages)]

    @property
    def kinds(self) -> set[str]:
        return set()

    @property
    def target(self) -> str:
        return f"Written(text={self.answer!r}, message={self.message!r})"

    @property
    def identity(self) -> str:
        return _identity(self.input, self.target)


@dataclass(frozen=True, slots=True)
class PreferenceRow(TextRow):
    """A prompt with a better and a worse answer; as a text row it has the better one."""

    rejected: str = ""
    rejected_message: str = ""

    @property
    def rejected_completion(self) -> Json:
        """The worse answer as the task renders it to train on."""
        return json.loads(self.rejected_message) if self.rejected_message else self.rejected

    @property
    def target(self) -> str:
        texts = f"chosen={self.answer!r}, rejected={self.rejected!r}"
        return f"Preferred({texts}, messages={(self.message, self.rejected_message)!r})"


@dataclass(frozen=True, slots=True)
class UnpairedRow(TextRow):
    """A prompt with one answer, which somebody found good or bad."""

    is_good: bool = True

    @property
    def target(self) -> str:
        return f"Rated(text={self.answer!r}, message={self.message!r}, is_good={self.is_good})"


def _identity(asked: Json, target: str) -> str:
    return f"({sorted(asked.items())!r}, {target})"


@dataclass(frozen=True, slots=True)
class Rows(Generic[R]):
    """The rows of one file, and how it was read."""

    rows: tuple[R, ...]
    path: str
    format: str
    columns: dict[str, str]
    scheme: str = ""
    skip_counts: dict[str, int] = field(default_factory=dict)  # rows that were left out, by reason
    note: str = ""  # which column was taken as what, where no name said it
    counts: dict[str, int] = field(default_factory=dict)  # what was mended or changed while reading, and how often
    left_out: tuple[str, ...] = ()  # columns and fields that nothing was read from
    encoding: str = ""  # of the file's text, where it is not UTF-8
    file_notes: tuple[str, ...] = ()  # of the file's format and encoding
    extras: tuple[Mapping[str, Json], ...] = ()  # of each row, the file's other columns; empty where it has none
    ids: tuple[str, ...] = ()  # of each row, its id; empty for rows of a file
    origins: tuple[Mapping[str, Json] | None, ...] = ()  # of each row, how it was made; empty for rows of a file

    @property
    def skip_count(self) -> int:
        return sum(self.skip_counts.values())

    @property
    def notes(self) -> list[str]:
        """What a user should know of how the file was read: columns that were guessed or not read, rows left out."""
        name = self.path.rsplit("/", 1)[-1]
        notes = [*self.file_notes, *([self.note] if self.note else [])]
        again = [column for column in self.left_out if column in self.columns.values()]
        notes += [f"{name}: several columns are called {column!r}, and the first of them is read" for column in again]
        if left_out := [column for column in self.left_out if column not in again]:
            notes.append(f"{name}: nothing is read from {', '.join(map(repr, left_out))}")
        if self.skip_counts:
            counts = ", ".join(f"{reason.replace('_', ' ')}: {count:,}" for reason, count in self.skip_counts.items())
            rows = "1 row is" if self.skip_count == 1 else f"{self.skip_count:,} rows are"
            notes.append(f"{name}: {rows} left out ({counts})")
        notes += [f"{name}: {count:,} {what}" for what, count in self.counts.items()]
        return notes
