"""Changed rows of the text family: a prompt by its letters alone, because its answer stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmos.abi.augmentation import ChangeKind
from llmos.data.augmentation.places import Place
from llmos.data.noise import Edit, apply
from llmos.data.row import TextRow

PROMPT = "prompt"
WHY = "another prompt may want another answer, and the row keeps the one it has"
REFUSED: Mapping[ChangeKind, str] = {
    ChangeKind.WORDS: WHY,
    ChangeKind.WHOLE: WHY,
    ChangeKind.TAGGED: "its rows have no tags of words",
}


def passages(row: TextRow, kind: ChangeKind) -> dict[str, tuple[str, tuple[Place, ...]]]:
    """What is answered: the text, or the last message of a user."""
    messages = row.input.get("messages")
    if messages and not (messages[-1].get("role") == "user" and isinstance(messages[-1]["content"], str)):
        return {}
    return {PROMPT: (row.prompt, ())}


def with_edits(row: TextRow, edits: Mapping[str, Sequence[Edit]]) -> TextRow | None:
    """The row with another prompt; None where nothing is left of it."""
    text = apply(row.prompt, edits[PROMPT])
    if not text.strip():
        return None
    messages = row.input.get("messages")
    if messages:
        last = {**messages[-1], "content": text}
        return replace(row, input={**row.input, "messages": [*messages[:-1], last]})
    (name, _), *others = row.input.items()
    return replace(row, input={name: text, **dict(others)})
