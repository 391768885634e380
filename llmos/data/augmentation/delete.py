"""delete: words left out, with the space before them (EDA, Wei & Zou 2019, arXiv:1901.11196)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from llmos.data.augmentation.augmenter import Augmenter, Change, ChangeableText, Material, change_texts
from llmos.data.augmentation.places import draw, free_words, words_in
from llmos.data.noise import Edit

LEAST_WORDS = 3  # a text of fewer has none to spare


def edits_of(passages: Sequence[ChangeableText], strength: float) -> list[list[Edit]]:
    """The words left out of each text."""
    return [_edits(one, strength) for one in passages]


def _edits(passage: ChangeableText, strength: float) -> list[Edit]:
    text, words = passage.text, words_in(passage.text)
    if len(words) < LEAST_WORDS:
        return []
    ends = {start: end for (_, end), (start, _) in pairwise(words)}  # of the word before
    edits: list[Edit] = []
    begin = words[0][0]  # as long as all words before are left out, the spaces behind go too
    for start, end in draw(free_words(text, passage.kept), passage.rng, strength):
        if start == begin:
            after = len(text) - len(text[end:].lstrip())
            edits.append(Edit(start, after, ""))
            begin = after
        else:
            gap = text[ends[start] : start]
            edits.append(Edit(ends[start] if gap.isspace() else start, end, ""))
    return edits


def prepare(material: Material) -> Change:
    return change_texts("delete", edits_of, material)


AUGMENTER = Augmenter("delete", prepare)
