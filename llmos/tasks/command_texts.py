"""The texts of a command line as the inputs of a task: one each, unless the task arranges them otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import find_spec
from llmos.tasks import task


@dataclass(frozen=True, slots=True)
class SourcedText:
    """A text, and the line it was read from; empty for a word of the command line."""

    text: str
    place: str = ""
    line: int = 0  # of its file, from 1


@dataclass(frozen=True, slots=True)
class SourcedInput:
    """An input, and where its texts were read."""

    data: Json
    place: str = ""
    line: int = 0  # of its file, from 1; 0 where it is made of several, or of words


class CommandTexts(Protocol):
    """The texts of one command line: words, and perhaps a file."""

    @property
    def words(self) -> Sequence[str]: ...
    def read(self, words: Sequence[str]) -> list[SourcedText]: ...
    def read_all(self) -> list[SourcedText]: ...
    def whole_file(self) -> str | None: ...


def arrange_texts(name: str, texts: CommandTexts) -> list[SourcedInput]:
    """The inputs; BadInput if there are too few texts for the task."""
    arrange = getattr(task(name), "arrange_texts", None) if find_spec(name) else None  # the daemon refuses what it must
    found: list[SourcedInput] = (
        arrange(texts) if arrange else [SourcedInput(one.text, one.place, one.line) for one in texts_of(texts)]
    )
    return found


def texts_of(texts: CommandTexts) -> list[SourcedText]:
    """All texts; BadInput if there is none."""
    found = texts.read_all()
    if not found:
        raise BadInput("There is no text: it is all empty lines. Give one or more")
    return found
