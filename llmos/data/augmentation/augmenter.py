"""The interface of an augmenter: from training rows and generators of random numbers to changed rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any, Protocol

from llmos.abi.augmentation import AUGMENTERS, ChangeKind, Needs
from llmos.abi.error import BadInput
from llmos.data.augmentation.families import rewriting_of
from llmos.data.augmentation.places import Place, is_changeable, words_in
from llmos.data.noise import Edit, outside


class Substitutes(Protocol):
    """Words that could stand in a text instead of others, by a model or a lexicon."""

    def offers(self, word: str) -> bool:
        """Whether there may be others for this word, wherever it stands."""
        ...

    def propose(self, texts: Sequence[str], places: Sequence[Sequence[Place]]) -> list[list[tuple[str, ...]]]:
        """For each place of each text the words that fit there, best first; none where nothing does."""
        ...


class Rewriter(Protocol):
    """Says a text in other words: a paraphrasing model, or two that translate there and back."""

    def rewrite(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Each text said anew."""
        ...


@dataclass(frozen=True, slots=True)
class ChangeableText:
    """A text to change, the places in it that must stay as they are, and its own random generator."""

    text: str
    kept: tuple[Place, ...]
    rng: Random


EditsOf = Callable[[Sequence[ChangeableText], float], list[list[Edit]]]
Change = Callable[[Sequence[Any], Sequence[Random], float], list[Any]]
"""Rows, a generator for each and the strength, to changed rows; None for a row that cannot be changed so.

Any: a row of the task's family.
"""


@dataclass(frozen=True)
class Material:
    """What augmenters draw from: the training rows, and models and lexicons where there are some."""

    task: str
    rows: Sequence[Any]  # Any: rows of the task's family
    substitutes: Mapping[str, Substitutes] = field(default_factory=dict)  # by the augmenter's name
    rewriters: Mapping[str, Rewriter] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)  # why an augmenter has none: a sentence with a way out

    @cached_property
    def vocabulary(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The changeable words of the training rows' texts by letter, and how many stand before each one's end."""
        counts = Counter(
            text[start:end]
            for row in self.rows
            for text in row.texts
            for start, end in words_in(text)
            if is_changeable(text[start:end])
        )
        words = tuple(sorted(counts))
        ends, total = [], 0
        for word in words:
            total += counts[word]
            ends.append(total)
        return words, tuple(ends)

    def need_substitutes(self, name: str) -> Substitutes:
        """The words for this augmenter; BadInput that says what is missing."""
        if name not in self.substitutes:
            raise _missing(name, self.lacks)
        return self.substitutes[name]

    def need_rewriter(self, name: str) -> Rewriter:
        """The model for this augmenter; BadInput that says what is missing."""
        if name not in self.rewriters:
            raise _missing(name, self.lacks)
        return self.rewriters[name]


SAID = {
    Needs.WORDNET: "WordNet",
    Needs.BASE: "a base that is an encoder",
    Needs.MASKED: "a base with its masked language modelling head",
    Needs.WRITER: "a model that writes text",
    Needs.TRANSLATORS: "models that translate, there and back",
}


def _missing(name: str, lacks: Mapping[str, str]) -> BadInput:
    needs = AUGMENTERS[name].needs
    why = lacks.get(name, f"it needs {SAID[needs]}, and none is given here. Leave it out")
    return BadInput(f"The augmenter {name} cannot be used: {why}", key="augment", value=name, lacks=str(needs))


@dataclass(frozen=True, slots=True)
class Augmenter:
    """One way to change rows; `prepare` reads the training rows once, and gives the change."""

    name: str
    prepare: Callable[[Material], Change]

    @property
    def kind(self) -> ChangeKind:
        return AUGMENTERS[self.name].kind


def change_texts(name: str, edits_of: EditsOf, material: Material) -> Change:
    """The change of rows by edits of their texts, as their family applies them."""
    family, kind = rewriting_of(material.task), AUGMENTERS[name].kind

    def change(rows: Sequence[Any], rngs: Sequence[Random], strength: float) -> list[Any]:  # Any: as Change
        fields = [family.passages(row, kind) for row in rows]
        passages = [
            ChangeableText(text, kept, rng)
            for some, rng in zip(fields, rngs, strict=True)
            for text, kept in some.values()
        ]
        found = iter(edits_of(passages, strength))
        changed = []
        for row, some in zip(rows, fields, strict=True):
            edits = {name: outside(next(found), kept) for name, (_, kept) in some.items()}
            changed.append(family.with_edits(row, edits) if any(edits.values()) else None)
        return changed

    return change
