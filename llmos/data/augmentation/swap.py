"""swap: words exchanged with others of the text (EDA, Wei & Zou 2019); of unspaced scripts, with the next."""

from __future__ import annotations

from collections.abc import Sequence

from llmos.data.augmentation.augmenter import Augmenter, Change, ChangeableText, Material, change_texts
from llmos.data.augmentation.places import Place, free_words, how_many, is_unspaced
from llmos.data.noise import Edit


def edits_of(passages: Sequence[ChangeableText], strength: float) -> list[list[Edit]]:
    """The exchanged words of each text."""
    return [_edits(one, strength) for one in passages]


def _edits(passage: ChangeableText, strength: float) -> list[Edit]:
    """Each exchange takes two words that no other exchange has; two equal ones are none."""
    text, rng = passage.text, passage.rng
    free = free_words(text, passage.kept)
    most = 2 * how_many(len(free), strength)
    new: dict[Place, str] = {}
    for at in rng.sample(range(len(free)), len(free)) if len(free) > 1 else ():
        other = at + 1 if is_unspaced(text[free[at][0]]) else (at + rng.randrange(1, len(free))) % len(free)
        if len(new) == most or other == len(free) or free[at] in new or free[other] in new:
            continue
        one, two = (text[slice(*free[i])] for i in (at, other))
        if one != two:
            new[free[at]], new[free[other]] = two, one
    return [Edit(start, end, word) for (start, end), word in sorted(new.items())]


def prepare(material: Material) -> Change:
    return change_texts("swap", edits_of, material)


AUGMENTER = Augmenter("swap", prepare)
