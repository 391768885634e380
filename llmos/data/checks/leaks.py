"""Leakage: rows whose text is also, or almost, in a split that measures. The row of the earlier split is to go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from llmos.abi.json_type import Json
from llmos.data.checks.finding import EXAMPLES, CheckFinding, Severity
from llmos.data.checks.subject import SPLITS, Subject, show_row

KIND = "leaks"


def find(subject: Subject) -> Iterator[CheckFinding]:
    """Training rows that are in validation or test, and validation rows that are in test."""
    ids: list[str] = []
    counts: Counter[str] = Counter()
    measured: set[str] = set()
    examples: list[Mapping[str, Json]] = []
    for at, (split, row) in enumerate(subject.rows):
        seen = [
            (other, score)
            for other, score in subject.near.before[at]
            if SPLITS.index(subject.rows[other][0]) > SPLITS.index(split)
        ]
        if not seen or subject.is_kept(KIND, row):
            continue
        ids.append(row.id)
        other, score = max(seen, key=lambda one: one[1])
        where, twin = subject.rows[other]
        counts[f"{split} in {where}"] += 1
        counts["almost the same"] += score < 1.0
        measured |= {subject.rows[one][1].id for one, _ in seen}
        if len(examples) < EXAMPLES:
            like = {"like": twin.id, "like_text": show_row(twin), "like_in": where, "similarity": round(score, 3)}
            examples.append({"id": row.id, "split": split, "text": show_row(row), **like})
    if ids:
        total = sum(len(subject.splits.get(name, ())) for name in SPLITS[1:])
        sentence = (
            f"{len(measured):,} of {total:,} rows that measure are also, or almost, in a split before them: figures on "
            f"them are too good. Dropping {len(ids):,} rows of the earlier split mends it"
        )
        found = {**+counts, "rows that measure": len(measured)}
        yield CheckFinding(KIND, Severity.ERROR, sentence, tuple(ids), found, tuple(examples), fixes=("drop",))
