"""Duplicates: rows of one split with the same text and target, and those whose text is almost the same."""

from __future__ import annotations

from collections.abc import Iterator

from llmos.data.checks.finding import EXAMPLES, CheckFinding, Severity
from llmos.data.checks.subject import Stored, Subject, show_row

KIND = "duplicates"
NEAR = "near_duplicates"


def find(subject: Subject) -> Iterator[CheckFinding]:
    """All rows of a group but the first."""
    exact: list[tuple[str, Stored, Stored, float]] = []
    near: list[tuple[str, Stored, Stored, float]] = []
    for at, (split, row) in enumerate(subject.rows):
        match = _first(subject, at, split, row)
        if match is None:
            continue
        other, score = match
        kind, found = (KIND, exact) if score == 1.0 else (NEAR, near)
        if not subject.is_kept(kind, row):
            found.append((split, row, subject.rows[other][1], score))
    if exact:
        sentence = f"Copies of an earlier row of their split, with the same target: {len(exact):,}"
        yield _finding(KIND, sentence, exact)
    if near:
        sentence = f"{len(near):,} rows are almost an earlier row of their split, with the same target"
        yield _finding(NEAR, sentence, near)


def _first(subject: Subject, at: int, split: str, row: Stored) -> tuple[int, float] | None:
    """The nearest earlier row of the split with the same target."""
    target = row.row.target
    found = [
        (other, score)
        for other, score in subject.near.before[at]
        if subject.rows[other][0] == split and subject.rows[other][1].row.target == target
    ]
    return max(found, key=lambda one: (one[1], -one[0]), default=None)


def _finding(kind: str, sentence: str, found: list[tuple[str, Stored, Stored, float]]) -> CheckFinding:
    counts = {name: sum(split == name for split, *_ in found) for name in dict.fromkeys(split for split, *_ in found)}
    examples = tuple(
        {"id": row.id, "text": show_row(row), "of": other.id, "of_text": show_row(other), "similarity": round(score, 3)}
        for _, row, other, score in found[:EXAMPLES]
    )
    return CheckFinding(
        kind, Severity.WARNING, sentence, tuple(row.id for _, row, *_ in found), counts, examples, fixes=("drop",)
    )
