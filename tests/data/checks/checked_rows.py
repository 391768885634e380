"""Rows and subjects for the tests of checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmos.data.checks.subject import Stored, Subject
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow, TagRow


def labelled(split: str, rows: Sequence[tuple[str, str]]) -> list[Stored]:
    """Rows of texts and labels, whose ids say their split and number."""
    return [
        StoredRow(f"{split}{i}", LabelRow({"text": text}, (label,), "f", i)) for i, (text, label) in enumerate(rows)
    ]


def tagged(sentences: Sequence[tuple[str, str]]) -> list[Stored]:
    """Rows of words and their tags, both with spaces between."""
    return [
        StoredRow(f"tag{i}", TagRow({"tokens": words.split()}, tuple(tags.split()), "f", i))
        for i, (words, tags) in enumerate(sentences)
    ]


def subject(splits: Mapping[str, Sequence[tuple[str, str]]], **more: object) -> Subject:
    return Subject("classify", {name: labelled(name, rows) for name, rows in splits.items()}, **more)
