"""Contradictory twins: rows with the same text and another target; for almost the same text a note."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from llmos.abi.json_type import Json
from llmos.data.checks.finding import EXAMPLES, CheckFinding, Severity
from llmos.data.checks.subject import Stored, Subject, show_row
from llmos.data.splits import key_of

KIND = "contradictions"
NEAR = "near_contradictions"


def find(subject: Subject) -> Iterator[CheckFinding]:
    """All rows of such a group. Of a generative task several answers may be right, so there is nothing to find."""
    if subject.is_generative:
        return
    groups: dict[str, list[Stored]] = defaultdict(list)
    for _, row in subject.rows:
        groups[key_of(row.row)].append(row)
    bad = [rows for rows in groups.values() if len({one.row.target for one in rows}) > 1]
    bad = [rows for rows in bad if not all(subject.is_kept(KIND, one) for one in rows)]
    if bad:
        ids = tuple(one.id for rows in bad for one in rows)
        sentence = f"{len(bad):,} texts have different targets in {len(ids):,} rows: at most one of them can be right"
        examples = tuple(_example(rows) for rows in bad[:EXAMPLES])
        yield CheckFinding(KIND, Severity.ERROR, sentence, ids, {"texts": len(bad)}, examples, fixes=("drop",))
    yield from _near(subject)


def _near(subject: Subject) -> Iterator[CheckFinding]:
    pairs = [
        (row, subject.rows[other][1], score)
        for at, (_, row) in enumerate(subject.rows)
        for other, score in subject.near.before[at]
        if score < 1.0 and subject.rows[other][1].row.target != row.row.target and not subject.is_kept(NEAR, row)
    ]
    if not pairs:
        return
    ids = tuple(dict.fromkeys(one.id for row, other, _ in pairs for one in (row, other)))
    examples = tuple(
        {**_example([row, other]), "similarity": round(score, 3)} for row, other, score in pairs[:EXAMPLES]
    )
    sentence = f"{len(pairs):,} pairs of rows have almost the same text and different targets"
    yield CheckFinding(NEAR, Severity.NOTE, sentence, ids, {"pairs": len(pairs)}, examples, fixes=("drop",))


def _example(rows: list[Stored]) -> Mapping[str, Json]:
    targets = Counter(one.row.target[:80] for one in rows)
    return {"ids": [one.id for one in rows], "text": show_row(rows[0]), "targets": dict(targets)}
