"""Augmentation: which changed copies of training rows are made, the names of all ways to make them, and bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from llmos.abi.error import BadSetting

AUTO = "auto"  # those that help on the validation rows, or none
MOST_COPIES = 16


class ChangeKind(StrEnum):
    """What an augmenter changes; a family of tasks takes some kinds and refuses others."""

    NOISE = "noise"  # letters, case, marks: what a reader understands through
    WORDS = "words"  # words left out, put in, exchanged
    TAGGED = "tagged"  # words with their tags, by the rows of the same label
    WHOLE = "whole"  # the text said anew
    NOTHING = "nothing"  # the row again as it is


class Needs(StrEnum):
    """What an augmenter needs beside the rows."""

    ROWS = "rows"
    WORDNET = "wordnet"  # its dictionary files
    BASE = "base"  # an encoder
    MASKED = "masked model"  # an encoder with its masked language modelling head
    WRITER = "writer"  # a model that answers any prompt with text
    TRANSLATORS = "translators"  # models that translate, there and back


@dataclass(frozen=True, slots=True)
class AugmenterSpec:
    """An augmenter as settings and documents name it."""

    kind: ChangeKind
    needs: Needs
    about: str


NOISE, WORDS, TAGGED, WHOLE = ChangeKind.NOISE, ChangeKind.WORDS, ChangeKind.TAGGED, ChangeKind.WHOLE
ROWS = Needs.ROWS
AUGMENTERS: Mapping[str, AugmenterSpec] = {
    "delete": AugmenterSpec(WORDS, ROWS, "words left out (EDA, Wei & Zou 2019)"),
    "insert": AugmenterSpec(WORDS, ROWS, "words of other training rows put in, by their frequency"),
    "swap": AugmenterSpec(WORDS, ROWS, "two words exchanged (EDA); of unspaced scripts two neighbours"),
    "punctuate": AugmenterSpec(WORDS, ROWS, "punctuation marks put between words (AEDA, Karimi et al. 2021)"),
    "typo": AugmenterSpec(NOISE, ROWS, "letters doubled, dropped or swapped"),
    "keyboard": AugmenterSpec(NOISE, ROWS, "letters struck on the key beside (QWERTY)"),
    "ocr": AugmenterSpec(NOISE, ROWS, "letters read as signs that look alike"),
    "accents": AugmenterSpec(NOISE, ROWS, "accents left out or put on"),
    "case": AugmenterSpec(NOISE, ROWS, "all letters small or all capital"),
    "punctuation": AugmenterSpec(NOISE, ROWS, "the end mark and commas left out, or a full stop put"),
    "contraction": AugmenterSpec(NOISE, ROWS, "do not as don't, or the other way (English)"),
    "synonym": AugmenterSpec(WORDS, Needs.WORDNET, "synonyms of WordNet (English)"),
    "neighbour": AugmenterSpec(WORDS, Needs.BASE, "near words by the base's embeddings, ranked in context"),
    "masked": AugmenterSpec(WORDS, Needs.MASKED, "words that a masked language model puts in their place"),
    "paraphrase": AugmenterSpec(WHOLE, Needs.WRITER, "the text in other words, by a generative model"),
    "back-translation": AugmenterSpec(WHOLE, Needs.TRANSLATORS, "the text translated and back (Sennrich et al. 2016)"),
    "mention": AugmenterSpec(TAGGED, ROWS, "entities replaced by others of their label (Dai & Adel 2020)"),
    "shuffle": AugmenterSpec(TAGGED, ROWS, "words shuffled within segments of one label (Dai & Adel 2020)"),
    "token": AugmenterSpec(TAGGED, ROWS, "words replaced by others of the same tag (Dai & Adel 2020)"),
    "repeat": AugmenterSpec(ChangeKind.NOTHING, ROWS, "the row again as it is, to balance labels"),
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How many changed copies are made of which training rows: `copies` of each of a `share` of them.

    `strength` is the share of a text's words that a copy changes, at least one. With `balance`, labels with fewer rows
    get more copies, until every label has as many as the most frequent one or `MOST_COPIES` copies of each row.
    """

    by: tuple[str, ...] = ()
    copies: int = 1
    share: float = 1.0
    strength: float = 0.1
    only_labels: tuple[str, ...] = ()
    balance: bool = False
    seed: int = 7

    def __bool__(self) -> bool:
        return bool(self.by) or self.balance


def names_in(value: str | None) -> tuple[str, ...]:
    """The augmenters of a setting like `swap,delete`; BadSetting for one that there is not."""
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in (value or "").split(",")))))
    known = (*AUGMENTERS, AUTO)
    for name in names:
        if name not in known:
            near = ", ".join(get_close_matches(name, known)) or "none"
            raise BadSetting(
                f"There is no augmenter {name!r} (near: {near}). There are: {', '.join(known)}",
                key="augment",
                value=name,
                expected=list(known),
            )
    if AUTO in names and len(names) > 1:
        raise BadSetting(
            "augment is auto and names others too. Give auto alone, or the names", key="augment", value=value
        )
    return names


def needs_of(names: Sequence[str], kinds: Sequence[Needs]) -> str:
    """The first of these augmenters that needs one of this kind; empty if none does."""
    return next((name for name in names if name in AUGMENTERS and AUGMENTERS[name].needs in kinds), "")


def may_change_meaning(name: str) -> bool:
    """Whether it puts in words that a lexicon or a model chose: a copy may then be of another label."""
    return AUGMENTERS[name].needs is not Needs.ROWS


def check_augmentation(one: Augmentation, prefix: str = "") -> None:
    """BadSetting for the first number out of its bounds; `prefix` begins the names of its settings."""
    for name, value, least, most in (
        ("copies", one.copies, 1, MOST_COPIES),
        ("share", one.share, 0.0, 1.0),
        ("strength", one.strength, 0.0, 0.5),
    ):
        key, is_count = prefix + name, name == "copies"
        is_above = value >= least if is_count else value > least
        if not (is_above and value <= most):
            bounds = f"{'from' if is_count else 'over'} {least:g} and at most {most:g}"
            raise BadSetting(f"{key} is {value!r}; it must be {bounds}", key=key, value=value, expected=bounds)
