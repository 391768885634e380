"""Voters that need no model: keywords, regular expressions and columns, each a vote or an abstention for every row."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmos.abi.error import BadInput
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.weak_labels.rules import ColumnRule, KeywordRule, PatternRule, WeakRule
from llmos.data.weak_labels.time_limit import TookTooLong, limit
from llmos.tasks.tag import WORD

ABSTAIN = -1
PATTERN_S = 2.0  # of the processor, for one pattern on one text
GAP = "\n"  # between the texts of a row
Stored = StoredRow[Any]  # Any: a row of the task's family


class Voter(Protocol):
    """Votes on rows, a block of them at a time."""

    def votes(self, rows: Sequence[Stored]) -> list[int]:
        """For each row the number of the label it votes for, or ABSTAIN."""
        ...


def text_of_row(stored: Stored) -> str:
    """What rules look at: the row's texts."""
    return GAP.join(stored.row.texts)


@dataclass(slots=True)
class KeywordVoter:
    """Compares words as `tag` cuts them, so that its time grows with the text and not with the number of keywords."""

    number: int
    words: frozenset[tuple[str, ...]]
    lengths: tuple[int, ...]
    beginnings: frozenset[str]
    sizes: tuple[int, ...]

    def votes(self, rows: Sequence[Stored]) -> list[int]:
        return [self.number if self._is_in(words_in(text_of_row(one))) else ABSTAIN for one in rows]

    def _is_in(self, words: Sequence[str]) -> bool:
        for at, word in enumerate(words):
            if any(word[:size] in self.beginnings for size in self.sizes if size <= len(word)):
                return True
            if any(tuple(words[at : at + length]) in self.words for length in self.lengths):
                return True
        return False


def keyword_voter(rule: KeywordRule, number: int) -> KeywordVoter:
    """The voter of a rule; `number` is that of its label."""
    beginnings = frozenset(one[:-1].casefold() for one in rule.keywords if one.endswith("*"))
    words = frozenset(words_in(one) for one in rule.keywords if not one.endswith("*"))
    lengths, sizes = sorted({len(one) for one in words}), sorted({len(one) for one in beginnings})
    return KeywordVoter(number, words, tuple(lengths), beginnings, tuple(sizes))


def words_in(text: str) -> tuple[str, ...]:
    """The words of a text without regard to case."""
    return tuple(word.casefold() for word in WORD.findall(text))


@dataclass(slots=True)
class PatternVoter:
    """Searches each text with a regular expression, and stops one that does not come to an end."""

    rule: PatternRule
    number: int
    file: str
    compiled: re.Pattern[str]

    def votes(self, rows: Sequence[Stored]) -> list[int]:
        return [self.number if self._is_in(one) else ABSTAIN for one in rows]

    def _is_in(self, stored: Stored) -> bool:
        try:
            with limit(PATTERN_S):
                return self.compiled.search(text_of_row(stored)) is not None
        except TookTooLong:
            raise BadInput(
                f"{self.file}, line {self.rule.line}: the pattern of {self.rule.name!r} took more than {PATTERN_S:g} s "
                f"of processor time on the row {stored.id}. Write: it without repeats in repeats, such as (a+)+",
                file=self.file,
                line=self.rule.line,
                rule=self.rule.name,
                row=stored.id,
                reason="too_slow",
            ) from None


@dataclass(slots=True)
class ColumnVoter:
    """Takes the value of another column as a label; values that are none are counted."""

    column: str
    numbers: Mapping[str, int]
    strays: Counter[str] = field(default_factory=Counter)

    def votes(self, rows: Sequence[Stored]) -> list[int]:
        return [self._vote(one) for one in rows]

    def _vote(self, stored: Stored) -> int:
        value = stored.extra.get(self.column)
        text = "" if value is None else str(value).strip()
        if text and text not in self.numbers:
            self.strays[text[:80]] += 1
        return self.numbers.get(text, ABSTAIN)


def light_voter(rule: WeakRule, labels: Mapping[str, int], file: str) -> Voter:
    """The voter of a rule that asks no model; `labels` are the numbers of all labels."""
    if isinstance(rule, KeywordRule):
        return keyword_voter(rule, labels[rule.label])
    if isinstance(rule, PatternRule):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when the rules were read
            return PatternVoter(rule, labels[rule.label], file, re.compile(rule.pattern))
    assert isinstance(rule, ColumnRule), rule
    return ColumnVoter(rule.column, {**labels, **{value: labels[label] for value, label in rule.labels.items()}})
