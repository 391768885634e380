"""Labelled spans of characters: the forms that they come in, and what to do where they overlap or part a word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llmos.abi.json_type import Json
from llmos.data.table import Table, bad_row
from llmos.tasks.tag import OUTSIDE, OVERLAPS
from llmos.tasks.text import quote_value

REFUSE, LONGEST, _FIRST = OVERLAPS.choices
STARTS = ("start", "start_offset", "begin", "start_char", "startOffset")
ENDS = ("end", "end_offset", "stop", "end_char", "endOffset")
NAMES = ("label", "labels", "tag", "entity", "type", "entity_group", "category", "class")
TEXTS = ("text", "value", "word", "quote")
FORMS = 'Give {"start": 0, "end": 3, "label": "PER"} or [0, 3, "PER"]'
UTF16, TRIMMED, WIDENED, DROPPED = (
    "rows with offsets in UTF-16 units, as their spans' own texts show",
    "spans without the spaces around them",
    "spans that begin or end inside of a word, trained on whole words and measured on characters",
    "spans left out because they overlap others",
)


@dataclass(frozen=True, slots=True)
class CharSpan:
    """Characters `start` to `end` (exclusive) of a text, and their label; `text` is what the span itself says it is."""

    start: int
    end: int
    label: str
    text: str | None = None


def spans_in(table: Table, line: int, text: str, cell: Json, counts: Counter[str]) -> list[CharSpan]:
    """The spans of one text, in their order; BadRow at the first that is none or lies outside of it.

    Offsets in UTF-16 units are recognized by the spans' own texts and converted; spaces at a span's ends are cut off.
    """
    spans = [_span_of(table, line, one) for one in _list_of(table, line, cell)]
    if any(_is_misplaced(span, text) for span in spans):
        spans = _from_utf16(table, line, text, spans)
        counts[UTF16] += 1
    return [_trim(table, line, text, span, counts) for span in spans]


def _list_of(table: Table, line: int, cell: Json) -> list[Json]:
    """The spans as a list: of a list, of one span, of their JSON as text, or of nothing."""
    if isinstance(cell, str):
        if not cell.strip():
            return []
        try:
            cell = json.loads(cell)
        except ValueError as error:
            raise bad_row(
                table.path, line, f"the spans are no JSON ({error})", FORMS, cell, kind="span_fields"
            ) from error
    if cell is None:
        return []
    return cell if isinstance(cell, list) else [cell]


def _span_of(table: Table, line: int, one: Json) -> CharSpan:
    if isinstance(one, (list, tuple)) and len(one) == 3:
        one = dict(zip(("start", "end", "label"), one, strict=True))
    if not isinstance(one, Mapping):
        raise bad_row(table.path, line, f"a span is {quote_value(one)}", FORMS, one, kind="span_fields")
    start, end, label = (_field(one, names) for names in (STARTS, ENDS, NAMES))
    if isinstance(label, list):
        if len(label) != 1:
            way_out = "A word has one tag: give a span for every label, and say what to do with overlaps"
            raise bad_row(table.path, line, f"a span has {len(label)} labels", way_out, one, kind="span_labels")
        (label,) = label
    first, after = _offset(start), _offset(end)
    if first is None or after is None or not isinstance(label, (str, int)) or not str(label).strip():
        raise bad_row(table.path, line, "a span lacks start, end or label", FORMS, one, kind="span_fields")
    said = _field(one, TEXTS)
    return CharSpan(first, after, str(label).strip(), said if isinstance(said, str) else None)


def _field(one: Mapping[str, Json], names: Sequence[str]) -> Json:
    return next((one[name] for name in names if one.get(name) is not None), None)


def _offset(value: Json) -> int | None:
    """A whole number, also where a table has made it a float or a text."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return int(found) if found.is_integer() else None


def _is_misplaced(span: CharSpan, text: str) -> bool:
    is_inside = 0 <= span.start < span.end <= len(text)
    return not is_inside or (span.text is not None and not _agrees(span, text))


def _agrees(span: CharSpan, text: str) -> bool:
    return span.text is not None and text[span.start : span.end].split() == span.text.split()


def _from_utf16(table: Table, line: int, text: str, spans: Sequence[CharSpan]) -> list[CharSpan]:
    """The spans with offsets counted in characters, if all of them are right in UTF-16; else BadRow that says why."""
    places = {unit: i for i, unit in enumerate(_utf16_units(text))}
    turned = [replace(span, start=places.get(span.start, -1), end=places.get(span.end, -1)) for span in spans]
    if all(not _is_misplaced(span, text) for span in turned) and any(_agrees(span, text) for span in turned):
        return turned
    worst = next(span for span in spans if _is_misplaced(span, text))
    fits = max(places) > len(text) and all(0 <= span.start < span.end <= max(places) for span in spans)
    hint = " (they look like UTF-16 units, in which an emoji counts twice: count characters)" if fits else ""
    if worst.start >= worst.end:
        what = f"a span from {worst.start:,} to {worst.end:,} holds no character"
    elif not 0 <= worst.start < worst.end <= len(text):
        what = f"a span from {worst.start:,} to {worst.end:,} is outside of its text of {len(text):,} characters"
    else:
        there = quote_value(text[worst.start : worst.end])
        what = f"at {worst.start:,} to {worst.end:,} stands {there}, and the span says {quote_value(worst.text)}"
    way_out = f"Correct the offsets{hint}"
    raise bad_row(table.path, line, what, way_out, [worst.start, worst.end, worst.label], kind="span_place")


def _utf16_units(text: str) -> list[int]:
    """Where each character begins in UTF-16 units, and where the text ends."""
    units = [0]
    for letter in text:
        units.append(units[-1] + (2 if ord(letter) > 0xFFFF else 1))
    return units


def _trim(table: Table, line: int, text: str, span: CharSpan, counts: Counter[str]) -> CharSpan:
    piece = text[span.start : span.end]
    start, end = span.start + len(piece) - len(piece.lstrip()), span.end - len(piece) + len(piece.rstrip())
    if start >= end:
        way_out = "Correct its start and end, or remove it"
        raise bad_row(table.path, line, "a span has only spaces", way_out, [span.start, span.end], kind="span_place")
    counts[TRIMMED] += (start, end) != (span.start, span.end)
    return replace(span, start=start, end=end)


def words_in(span: CharSpan, offsets: Sequence[tuple[int, int]]) -> range:
    """The words that a span touches; their offsets are in order."""
    inside = [i for i, (start, end) in enumerate(offsets) if start < span.end and end > span.start]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


def without_overlaps(
    table: Table,
    line: int,
    spans: Sequence[CharSpan],
    offsets: Sequence[tuple[int, int]],
    policy: str,
    counts: Counter[str],
) -> list[CharSpan]:
    """The spans, of which no two touch the same word, in the order of the text; BadRow if none may be left out.

    `longest` keeps the one with more characters, then the earlier; `first` the one that stands first in the row.
    """
    order = sorted(spans, key=lambda span: (span.start - span.end, span.start)) if policy == LONGEST else spans
    owner: dict[int, CharSpan] = {}
    kept = []
    for span in order:
        words = words_in(span, offsets)
        other = next((owner[i] for i in words if i in owner), None)
        if other is None:
            owner.update(dict.fromkeys(words, span))
            kept.append(span)
        elif policy == REFUSE:
            shown = [[one.start, one.end, one.label] for one in (other, span)]
            way_out = "Correct them, or choose which is kept with the option overlaps: longest or first"
            raise bad_row(table.path, line, "two spans are on one word", way_out, shown, kind="span_overlap")
        else:
            counts[DROPPED] += 1
    return sorted(kept, key=lambda span: span.start)


def tags_of(spans: Sequence[CharSpan], offsets: Sequence[tuple[int, int]], counts: Counter[str]) -> list[str]:
    """IOB2 tags of the words; a word of which a span has a part belongs to it whole."""
    tags = [OUTSIDE] * len(offsets)
    for span in spans:
        words = words_in(span, offsets)
        counts[WIDENED] += (offsets[words[0]][0], offsets[words[-1]][1]) != (span.start, span.end)
        for nth, i in enumerate(words):
            tags[i] = f"{'I' if nth else 'B'}-{span.label}"
    return tags
