"""token: words replaced by others that have the same tag in the training rows (label-wise, Dai & Adel 2020)."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

from llmos.data.augmentation.augmenter import Augmenter, Change, Material
from llmos.data.augmentation.places import how_many, is_changeable
from llmos.data.augmentation.reordered import with_words
from llmos.data.row import TagRow

Tables = Mapping[str, tuple[Sequence[str], Sequence[int]]]  # of each tag: words, and how many stand before their ends


def prepare(material: Material) -> Change:
    tables = _tables(material.rows)

    def change(rows: Sequence[TagRow], rngs: Sequence[Random], strength: float) -> list[TagRow | None]:
        return [_replace_tokens(row, rng, strength, tables) for row, rng in zip(rows, rngs, strict=True)]

    return change


def _tables(rows: Sequence[TagRow]) -> Tables:
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for word, tag in zip(row.input["tokens"], row.tags, strict=True):
            if is_changeable(word):
                counts.setdefault(tag, Counter())[word] += 1
    made = {}
    for tag, some in counts.items():
        words = sorted(some)
        ends: list[int] = []
        for word in words:
            ends.append((ends[-1] if ends else 0) + some[word])
        made[tag] = (words, ends)
    return made


def _replace_tokens(row: TagRow, rng: Random, strength: float, tables: Tables) -> TagRow | None:
    words = list(row.input["tokens"])
    free = [i for i, word in enumerate(words) if is_changeable(word)]
    for i in sorted(rng.sample(free, how_many(len(free), strength)) if free else ()):
        others, ends = tables[row.tags[i]]
        words[i] = others[bisect_right(ends, rng.randrange(ends[-1]))]
    return with_words(row, words)


AUGMENTER = Augmenter("token", prepare)
