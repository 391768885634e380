"""shuffle: words shuffled within segments of one label (Dai & Adel 2020, arXiv:2010.11683)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from llmos.data.augmentation.augmenter import Augmenter, Change, Material
from llmos.data.augmentation.reordered import with_words
from llmos.data.row import TagRow
from llmos.tasks.tag import spans_of

SHUFFLED = 0.3  # of the segments with several words, at least one


def prepare(material: Material) -> Change:
    def change(rows: Sequence[TagRow], rngs: Sequence[Random], strength: float) -> list[TagRow | None]:
        return [_shuffle_row(row, rng) for row, rng in zip(rows, rngs, strict=True)]

    return change


def _shuffle_row(row: TagRow, rng: Random) -> TagRow | None:
    long = [(first, after) for first, after in _segments(row.tags) if after - first > 1]
    if not long:
        return None
    words = list(row.input["tokens"])
    for at in sorted(rng.sample(range(len(long)), max(1, round(len(long) * SHUFFLED)))):
        first, after = long[at]
        part = words[first:after]
        rng.shuffle(part)
        words[first:after] = part
    return with_words(row, words)


def _segments(tags: Sequence[str]) -> list[tuple[int, int]]:
    """Entities, and what stands between them."""
    borders = sorted({0, len(tags), *(at for _, first, after in spans_of(tags) for at in (first, after))})
    return list(pairwise(borders))


AUGMENTER = Augmenter("shuffle", prepare)
