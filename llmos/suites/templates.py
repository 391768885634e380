"""Templates: texts with slots (`{name} wants a refund`) that lexicons fill, and spans marked as `[Olga](PERSON)`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from math import prod
from random import Random

SLOT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
MARK = re.compile(r"\[([^\[\]]+)\]\(([^()\s]+)\)")
SLOT_NAME = re.compile(r"([^\W\d]\w*?)(\d*)")
ENUMERATED = 4096  # fills that are listed rather than drawn

Lexicons = Mapping[str, tuple[str, ...]]
Fill = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MarkedSpan:
    """A span that a template marks; `text[start:end]` is it."""

    label: str
    start: int
    end: int


def seeded_rng(seed: int, *parts: object) -> Random:
    """A random generator of its own for each place, so that a test added to a suite changes no other."""
    return Random(sha256("\x1f".join(map(str, (seed, *parts))).encode("utf-8", "surrogatepass")).digest())


def slots_of(texts: Iterable[str]) -> list[str]:
    """The slots in these texts, each once, in order."""
    return list(dict.fromkeys(one[1] for text in texts for one in SLOT.finditer(text) if one[1] is not None))


def lexicon_of(slot: str) -> str:
    """The lexicon that fills a slot: `name2` is a second one of `name`. Empty for what is no name."""
    found = SLOT_NAME.fullmatch(slot)
    return found[1] if found else ""


def fill_text(text: str, values: Fill) -> str:
    """The text with its slots filled; doubled braces are braces."""
    return SLOT.sub(lambda one: values.get(one[1], one[0]) if one[1] is not None else one[0][0], text)


def fill_marked(text: str, values: Fill) -> tuple[str, tuple[MarkedSpan, ...]]:
    """The text with its slots filled and its marks taken out, and where the marked spans lie in it."""
    parts, spans, length, at = [], [], 0, 0
    for mark in MARK.finditer(text):
        before, inside = fill_text(text[at : mark.start()], values), fill_text(mark[1], values)
        start = length + len(before)
        length = start + len(inside)
        spans.append(MarkedSpan(mark[2], start, length))
        parts += [before, inside]
        at = mark.end()
    return "".join([*parts, fill_text(text[at:], values)]), tuple(spans)


def fills_of(slots: Sequence[str], lexicons: Lexicons, most: int, rng: Random) -> list[dict[str, str]]:
    """All ways to fill these slots, or so many of them by chance; slots of one lexicon hold different entries."""
    lists = [lexicons[lexicon_of(slot)] for slot in slots]
    if prod(map(len, lists)) <= max(ENUMERATED, most):
        every = [dict(zip(slots, values, strict=True)) for values in product(*lists) if _differ(slots, values)]
        return every if len(every) <= most else [every[i] for i in sorted(rng.sample(range(len(every)), most))]
    drawn: dict[tuple[str, ...], None] = {}
    for _ in range(most * 20):
        values = tuple(rng.choice(entries) for entries in lists)
        if _differ(slots, values):
            drawn[values] = None
        if len(drawn) == most:
            break
    return [dict(zip(slots, values, strict=True)) for values in drawn]


def _differ(slots: Sequence[str], values: Sequence[str]) -> bool:
    filled = [(lexicon_of(slot), value) for slot, value in zip(slots, values, strict=True)]
    return len(set(filled)) == len(filled)
