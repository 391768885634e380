"""Changed rows of the tags family: words change inside, or outside of entities, and every tag stays with its word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from llmos.abi.augmentation import ChangeKind
from llmos.data.augmentation.places import Place, move_places, words_in
from llmos.data.char_spans import CharSpan, tags_of
from llmos.data.noise import Edit, apply
from llmos.data.row import TagRow
from llmos.tasks.tag import BLANKS, OUTSIDE, spans_of

TEXT = "text"
REFUSED: Mapping[ChangeKind, str] = {ChangeKind.WHOLE: "a text said anew has no tags"}


def passages(row: TagRow, kind: ChangeKind) -> dict[str, tuple[str, tuple[Place, ...]]]:
    """The text, or the words joined by spaces; entities stay, except that noise may go inside of their words."""
    kept = () if kind is ChangeKind.NOISE else tuple(place for place, _ in entities_of(row))
    return {TEXT: (text_of(row), kept)}


def text_of(row: TagRow) -> str:
    """The text, or the words joined by spaces where there is none."""
    return " ".join(row.input["tokens"]) if row.text is None else row.text


def entities_of(row: TagRow) -> list[tuple[Place, str]]:
    """The characters of every entity, and its label."""
    if row.spans is not None and row.text is not None:
        return [((start, end), label) for start, end, label in sorted(row.spans)]
    offsets = row.offsets
    return [((offsets[first][0], offsets[after - 1][1]), label) for label, first, after in spans_of(row.tags)]


def with_edits(row: TagRow, edits: Mapping[str, Sequence[Edit]]) -> TagRow | None:
    """The row with the words and tags that these edits leave; None where an entity would be lost or parted."""
    found = entities_of(row)
    fit = _harmless(edits[TEXT], row.offsets, [place for place, _ in found])
    if not fit:
        return None
    text = apply(text_of(row), fit)
    changed = _of_words(row, text, fit) if row.text is None else _of_text(row, text, fit)
    if changed is None or [label for _, label in entities_of(changed)] != [label for _, label in found]:
        return None
    return changed


def _harmless(edits: Sequence[Edit], offsets: Sequence[Place], entities: Sequence[Place]) -> list[Edit]:
    """The edits that touch no entity, or go inside of one of its words without parting it."""
    inside = [place for place in offsets if any(place[0] < end and start < place[1] for start, end in entities)]
    return [
        one
        for one in edits
        if not any(one.start < end and start < one.end for start, end in entities)
        or (
            not any(sign in BLANKS for sign in one.new)
            and any(start <= one.start < one.end <= end for start, end in inside)
        )
    ]


def _of_words(row: TagRow, text: str, edits: Sequence[Edit]) -> TagRow | None:
    """The words where they now stand with their tags; what was put between them is outside."""
    places = move_places(row.offsets, edits)
    if any(end > start for (_, end), (start, _) in pairwise(places)):
        return None
    words: list[str] = []
    tags: list[str] = []
    at = 0
    for (start, end), tag in zip(places, row.tags, strict=True):
        between = text[at:start].split()
        words, tags = [*words, *between], [*tags, *([OUTSIDE] * len(between))]
        if text[start:end].strip(BLANKS):
            words.append(text[start:end])
            tags.append(tag)
        elif tag != OUTSIDE:
            return None
        at = end
    last = text[at:].split()
    words, tags = [*words, *last], [*tags, *([OUTSIDE] * len(last))]
    return replace(row, input={**row.input, "tokens": words}, tags=tuple(tags)) if words else None


def _of_text(row: TagRow, text: str, edits: Sequence[Edit]) -> TagRow | None:
    """The words that the text now splits into, and their tags by its spans where they now stand."""
    found = entities_of(row)
    places = move_places([place for place, _ in found], edits)
    spans = [CharSpan(*place, label) for place, (_, label) in zip(places, found, strict=True)]
    if any(text[one.start : one.end].strip() != text[one.start : one.end] or one.start >= one.end for one in spans):
        return None
    return from_spans(row, text, spans)


def from_spans(row: TagRow, text: str, spans: Sequence[CharSpan]) -> TagRow | None:
    """The row of another text with these spans; None where no word is left, or a word has two spans."""
    offsets = words_in(text)
    tags = tags_of(spans, offsets, Counter())
    if not offsets or sum(tag.startswith("B-") for tag in tags) != len(spans):
        return None
    named = tuple((one.start, one.end, one.label) for one in spans)
    tokens = [text[start:end] for start, end in offsets]
    return replace(row, input={**row.input, "tokens": tokens}, tags=tuple(tags), text=text, spans=named)
