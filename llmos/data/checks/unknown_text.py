"""Unknown text: characters that the base's tokenizer reads as one token for all that it does not know."""

from __future__ import annotations

from collections.abc import Iterator

from llmos.data.checks.finding import EXAMPLES, CheckFinding, Severity
from llmos.data.checks.subject import Subject, show_row

KIND = "unknown_text"
MUCH = 0.1  # of a row's characters, and of all: then words cannot be told apart


def find(subject: Subject) -> Iterator[CheckFinding]:
    """Rows of which the base does not know a tenth; nothing if no base was asked. All rows together decide how bad."""
    counts = subject.unknown_counts
    rows = [
        (row, unknown / max(1, whole))
        for _, row in subject.rows
        for unknown, whole in [counts.get(row.id, (0, 0))]
        if unknown > MUCH * whole and not subject.is_kept(KIND, row)
    ]
    if not rows:
        return
    share = sum(unknown for unknown, _ in counts.values()) / max(1, sum(whole for _, whole in counts.values()))
    shown = f" ({' '.join(subject.unknown_examples)} ...)" if subject.unknown_examples else ""
    way_out = "choose another base for this language or script" if share > MUCH else "look whether they are damaged"
    sentence = (
        f"{share:.0%} of all characters are unknown to the base's tokenizer{shown}, which cannot tell such words "
        f"apart. {len(rows):,} rows have more than {MUCH:.0%}: {way_out}"
    )
    worst = sorted(rows, key=lambda pair: -pair[1])[:EXAMPLES]
    examples = tuple({"id": row.id, "unknown": round(part, 3), "text": show_row(row)} for row, part in worst)
    severity = Severity.ERROR if share > MUCH else Severity.WARNING
    ids = tuple(row.id for row, _ in rows)
    fixes = () if share > MUCH else ("drop",)  # nobody wants to drop nearly all rows
    yield CheckFinding(KIND, severity, sentence, ids, {"share": round(share, 4)}, examples, fixes=fixes)
