"""punctuate: punctuation marks put between words (AEDA, Karimi, Rossi & Prati 2021, arXiv:2108.13230)."""

from __future__ import annotations

from collections.abc import Sequence

from llmos.data.augmentation.augmenter import Augmenter, Change, ChangeableText, Material, change_texts
from llmos.data.augmentation.places import is_unspaced, words_in
from llmos.data.noise import Edit

MARKS, MARKS_HAN = ".;?:!,", "。；？：！，"
MOST_SHARE = 3  # one mark for this many words, at most


def edits_of(passages: Sequence[ChangeableText], strength: float) -> list[list[Edit]]:
    """From one mark to a third of the text's words, as the paper has it; the strength is not asked."""
    return [_edits(one) for one in passages]


def _edits(passage: ChangeableText) -> list[Edit]:
    text, rng = passage.text, passage.rng
    words = words_in(text)[:-1]
    if not words:
        return []
    count = rng.randint(1, max(1, len(words) // MOST_SHARE))
    edits = []
    for at in sorted(rng.sample(range(len(words)), min(count, len(words)))):
        end = words[at][1]
        is_han = is_unspaced(text[end - 1])
        edits.append(Edit(end, end, rng.choice(MARKS_HAN) if is_han else f" {rng.choice(MARKS)}"))
    return edits


def prepare(material: Material) -> Change:
    return change_texts("punctuate", edits_of, material)


AUGMENTER = Augmenter("punctuate", prepare)
