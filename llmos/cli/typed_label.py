"""What somebody types at a row: commands, and labels or spans, as answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json

SPAN = re.compile(r"(\d+)(?:\s*-\s*(\d+))?\s+(\S.*)")
NOTHING = "-"  # of tags: no word is part of an entity
HELP = {
    "Enter": "take the first suggestion",
    "a number, a label or its beginning": "that one; with commas between, where a row has several",
    "y, n": "yes: the first suggestion; no, of two labels: the other one. Unless a label begins so",
    "+NAME": "a new label",
    "2-3 PER, 5 LOC": "tags: the first and last word of each entity; - for none",
    "/s": "skip this row",
    "/u": "undo the last answer",
    "/c TEXT": "a comment on this row, kept with its answer",
    "/q": "stop; everything so far is kept",
}
KEYS = "Enter takes the first suggestion. /s skips a row, /u undoes, /q stops and keeps all answers, /? shows all keys."
COMMANDS = {"s": "skip", "u": "undo", "c": "comment", "q": "quit", "?": "help"}


@dataclass(frozen=True, slots=True)
class Typed:
    """A command, or the value of an answer; `text` is what follows a command."""

    command: str = ""
    value: Json = None
    text: str = ""


def read_typed(
    line: str, labels: Sequence[str], suggestions: Sequence[Json], *, words: int | None = None, is_many: bool = False
) -> Typed:
    """What a line means at a row with these suggestions; `words` is how many it has, if they are tagged.

    BadInput says what may be typed instead.
    """
    said = line.strip()
    if said.startswith("/"):
        name, _, text = said[1:].partition(" ")
        if name not in COMMANDS:
            raise BadInput(
                f"There is no command /{name}. There are: /{', /'.join(COMMANDS)}", key="command", value=name
            )
        return Typed(COMMANDS[name], text=text.strip())
    if not said:
        if not suggestions:
            raise BadInput("There is no suggestion to take. Type a label, /s to skip or /q to stop", key="value")
        return Typed(value=suggestions[0])
    if words is not None:
        return Typed(value=_spans(said, words, labels))
    if is_many:
        return Typed(value=[_label(part.strip(), labels, suggestions) for part in said.split(",") if part.strip()])
    return Typed(value=_label(said, labels, suggestions))


def _label(said: str, labels: Sequence[str], suggestions: Sequence[Json]) -> str:
    """The label of this name, or of the suggestion with this number, or the only one that begins so; +NAME is new.

    Where labels are numbers, a number is a label or nothing.
    """
    if said in labels:
        return said
    if said.startswith("+") and said[1:].strip():
        return said[1:].strip()
    has_numbers = not any(label.isdecimal() for label in labels)
    is_number = has_numbers and said.isdecimal() and 0 < int(said) <= len(suggestions)
    if is_number and isinstance(suggestions[int(said) - 1], str):
        return str(suggestions[int(said) - 1])
    begins = [label for label in labels if label.casefold().startswith(said.casefold())]
    if len(begins) == 1:
        return begins[0]
    if begins:
        raise BadInput(f"{said!r} may be {', '.join(begins[:8])}. Type more of it", key="value", expected=begins[:8])
    if (found := _yes_or_no(said.casefold(), labels, suggestions)) is not None:
        return found
    raise BadInput(f"There is no label {said!r}. A new one is made with a plus: +{said}", key="value", value=said)


def _yes_or_no(said: str, labels: Sequence[str], suggestions: Sequence[Json]) -> str | None:
    """Of yes the first suggestion, of no the other one of two labels; None if it is neither, or says nothing."""
    first = suggestions[0] if suggestions else None
    if not isinstance(first, str):
        return None
    if said in ("y", "yes"):
        return first
    others = [label for label in labels if label != first]
    return others[0] if said in ("n", "no") and len(others) == 1 else None


def _spans(said: str, words: int, labels: Sequence[str]) -> list[Json]:
    """Spans of words as `2-3 PER, 5 LOC`: the first and the last word, counted from 0, and a label as `_label` reads
    it."""
    if said == NOTHING:
        return []
    spans: list[Json] = []
    for part in said.split(","):
        found = SPAN.fullmatch(part.strip())
        if found is None:
            raise BadInput(f"{part.strip()!r} is no span. One is: 2-3 PER. None at all: {NOTHING}", key="value")
        start, end = int(found[1]), int(found[2] or found[1]) + 1
        if not start < end <= words or any(start < b and a < end for a, b, _ in spans):
            raise BadInput(f"{part.strip()!r} is not within the {words} words, or overlaps another", key="value")
        spans.append([start, end, _label(found[3].strip(), labels, ())])
    return spans
