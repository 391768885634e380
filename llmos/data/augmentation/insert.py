"""insert: words of the training rows put behind words of a text, drawn by their frequency.

EDA (Wei & Zou 2019) inserts synonyms; frequent words of the same rows need no lexicon and any language has them
(unigram noise: Xie et al. 2017, arXiv:1703.02573).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from llmos.data.augmentation.augmenter import Augmenter, Change, ChangeableText, Material, change_texts
from llmos.data.augmentation.places import draw, free_words, is_unspaced, words_in
from llmos.data.noise import Edit


def prepare(material: Material) -> Change:
    words, ends = material.vocabulary

    def edits_of(passages: Sequence[ChangeableText], strength: float) -> list[list[Edit]]:
        return [_edits(one, strength) for one in passages]

    def _edits(passage: ChangeableText, strength: float) -> list[Edit]:
        if not words or not free_words(passage.text, passage.kept):
            return []
        edits = []
        for _, end in draw(words_in(passage.text), passage.rng, strength):
            word = words[bisect_right(ends, passage.rng.randrange(ends[-1]))]
            gap = "" if is_unspaced(passage.text[end - 1]) and is_unspaced(word) else " "
            edits.append(Edit(end, end, gap + word))
        return edits

    return change_texts("insert", edits_of, material)


AUGMENTER = Augmenter("insert", prepare)
