"""Words replaced by what a model or a lexicon proposes for their place: synonym, neighbour and masked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from llmos.data.augmentation.augmenter import Augmenter, Change, ChangeableText, Material, Substitutes, change_texts
from llmos.data.augmentation.places import Place, draw, free_words, is_unspaced
from llmos.data.augmentation.wordnet import find_wordnet
from llmos.data.noise import LEAST_LETTERS, Edit, is_negation

BEST = 5  # one of the best proposals is taken, by chance


def _edits_of(source: Substitutes, passages: Sequence[ChangeableText], strength: float) -> list[list[Edit]]:
    places = [_draw_places(source, one, strength) for one in passages]
    proposed = source.propose([one.text for one in passages], places)
    return [
        [edit for place, words in zip(some, found, strict=True) if (edit := _edit(passage, place, words))]
        for passage, some, found in zip(passages, places, proposed, strict=True)
    ]


def _draw_places(source: Substitutes, passage: ChangeableText, strength: float) -> list[Place]:
    """As many words as the strength says of all, among those that the source has others for."""
    telling = _telling_words(passage)
    offered = [(start, end) for start, end in telling if source.offers(passage.text[start:end])]
    return draw(offered, passage.rng, strength * len(telling) / max(1, len(offered)))


def _telling_words(passage: ChangeableText) -> list[Place]:
    """The words that may be changed; where there are longer ones, without those that hold a sentence together."""
    free = free_words(passage.text, passage.kept)
    return [(s, e) for s, e in free if e - s >= LEAST_LETTERS or is_unspaced(passage.text[s])] or free


def _edit(passage: ChangeableText, place: tuple[int, int], words: Sequence[str]) -> Edit | None:
    """The word in the case of the one that it replaces; what negates comes in by no proposal."""
    old = passage.text[slice(*place)]
    fit = [word for word in words if word.strip() and word.casefold() != old.casefold() and not is_negation(word)]
    if not fit:
        return None
    new = passage.rng.choice(fit[:BEST])
    return Edit(*place, _copy_case(old, new))


def _copy_case(model: str, word: str) -> str:
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word[0].upper() + word[1:] if model[0].isupper() else word


def _prepare(name: str, material: Material) -> Change:
    return change_texts(name, partial(_edits_of, material.need_substitutes(name)), material)


def _prepare_synonyms(material: Material) -> Change:
    source = material.substitutes.get("synonym") or find_wordnet()
    return change_texts("synonym", partial(_edits_of, source), material)


SUBSTITUTING = (
    Augmenter("synonym", _prepare_synonyms),
    Augmenter("neighbour", partial(_prepare, "neighbour")),
    Augmenter("masked", partial(_prepare, "masked")),
)
