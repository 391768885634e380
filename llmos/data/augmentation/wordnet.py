"""WordNet where it is installed: synonyms of English words, by the package `wn` or `nltk` with its data."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from llmos.abi.error import BadInput
from llmos.data.augmentation.places import Place

WAY_OUT = (
    "Install one with its data: pip install nltk, then python -m nltk.downloader wordnet omw-1.4; or pip install wn, "
    "then python -m wn download oewn. Or leave synonym out: neighbour needs no lexicon"
)
MOST_SYNSETS = 2  # the most frequent senses of a word; the others are seldom meant


@dataclass(frozen=True, slots=True)
class WordLexicon:
    """Synonyms of a word, wherever it stands: proposals that do not look at the context."""

    synonyms: Callable[[str], tuple[str, ...]]

    def offers(self, word: str) -> bool:
        return bool(self.synonyms(word.lower()))

    def propose(self, texts: Sequence[str], places: Sequence[Sequence[Place]]) -> list[list[tuple[str, ...]]]:
        return [
            [self.synonyms(text[start:end].lower()) for start, end in some]
            for text, some in zip(texts, places, strict=True)
        ]


def find_wordnet() -> WordLexicon:
    """The installed WordNet; BadInput where there is none, or its data is missing."""
    for name, read in (("wn", _read_wn), ("nltk", _read_nltk)):
        try:
            found = read(importlib.import_module(f"{name}.corpus" if name == "nltk" else name))
        except ModuleNotFoundError:
            continue
        if found is not None:
            return WordLexicon(cache(found))
    raise BadInput(
        f"The augmenter synonym needs WordNet, which is not installed here. {WAY_OUT}",
        key="augment",
        value="synonym",
        lacks="wordnet",
    )


def _read_wn(wn: Any) -> Callable[[str], tuple[str, ...]] | None:  # Any: the package, which is optional
    if not any(one.language == "en" for one in wn.lexicons()):
        return None

    def synonyms(word: str) -> tuple[str, ...]:
        lemmas = (lemma for synset in wn.synsets(word, lang="en")[:MOST_SYNSETS] for lemma in synset.lemmas())
        return _others(word, lemmas)

    return synonyms


def _read_nltk(corpus: Any) -> Callable[[str], tuple[str, ...]] | None:  # Any: as above
    try:
        corpus.wordnet.synsets("word")
    except LookupError:
        return None

    def synonyms(word: str) -> tuple[str, ...]:
        synsets = corpus.wordnet.synsets(word)[:MOST_SYNSETS]
        return _others(word, (lemma for synset in synsets for lemma in synset.lemma_names()))

    return synonyms


def _others(word: str, lemmas: Any) -> tuple[str, ...]:  # Any: an iterable of texts
    plain = (str(lemma).replace("_", " ") for lemma in lemmas)
    return tuple(dict.fromkeys(one for one in plain if one.lower() != word and one.isalpha()))
