"""What a family drafts from rows: tests and lexicons, as they will be written into a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NOISES_TO_TRY = ("typo", "case", "punctuation", "contraction", "sentence", "name", "place", "number")
TEXTS_OF_INVARIANCE = 24


@dataclass(frozen=True, slots=True)
class DraftedTest:
    """A test of a draft: its keys with texts, lists or mappings. Of `unchanged_by` those noises stay that apply."""

    name: str
    about: str
    keys: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """The tests that a family drafts from rows, and the lexicons they use."""

    tests: tuple[DraftedTest, ...]
    lexicons: Mapping[str, Sequence[str]] = field(default_factory=dict)


def as_template(text: str) -> str:
    """A text as a template that makes it: braces doubled."""
    return text.replace("{", "{{").replace("}", "}}")
