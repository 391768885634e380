"""Balance: labels with few rows, and labels that outweigh the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from llmos.data.checks.finding import CheckFinding, Severity
from llmos.data.checks.subject import Subject
from llmos.tasks.tag import OUTSIDE

KIND = "balance"
FEW = 8  # rows: fewer teach little, and measure nothing
MOST_RATIO = 20  # between the most and the least frequent label
SHOWN = 8


def find(subject: Subject) -> Iterator[CheckFinding]:
    """Labels with fewer training rows than FEW, or with MOST_RATIO times fewer than the most frequent one."""
    rows = subject.splits.get("train", ())
    counts = Counter(kind for row in rows for kind in row.row.kinds if kind != OUTSIDE)
    if len(counts) < 2:
        return
    most = max(counts.values())
    few = {label for label, count in counts.items() if count < FEW}
    rare = few | {label for label, count in counts.items() if count * MOST_RATIO < most}
    if not rare:
        return
    ids = tuple(row.id for row in rows if row.row.kinds & rare)
    named = ", ".join(
        f"{label!r} {counts[label]:,}" for label in sorted(rare, key=lambda one: (counts[one], one))[:SHOWN]
    )
    more = f" and {len(rare) - SHOWN} more" if len(rare) > SHOWN else ""
    sentence = (
        f"{len(rare)} of {len(counts)} labels have few training rows ({named}{more}); the most frequent has {most:,}. "
        "Add rows of them, or train with --set class_weights=balanced"
    )
    yield CheckFinding(KIND, Severity.WARNING if few else Severity.NOTE, sentence, ids, dict(counts.most_common()))
