"""Length: rows with more tokens than the base takes."""

from __future__ import annotations

from collections.abc import Iterator

from llmos.data.checks.finding import EXAMPLES, CheckFinding, Severity
from llmos.data.checks.subject import Subject, show_row

KIND = "too_long"


def find(subject: Subject) -> Iterator[CheckFinding]:
    """Rows over the base's limit, which training refuses or cuts; nothing if no base was asked."""
    limit = subject.max_tokens
    if limit is None:
        return
    long = [
        (row, subject.token_counts[row.id])
        for _, row in subject.rows
        if subject.token_counts.get(row.id, 0) > limit and not subject.is_kept(KIND, row)
    ]
    if long:
        most = max(size for _, size in long)
        sentence = (
            f"{len(long):,} rows have more tokens than the base takes ({limit:,}; the longest has {most:,}). Training "
            "refuses them, or cuts them with --set truncate=true"
        )
        examples = tuple({"id": row.id, "tokens": size, "text": show_row(row)} for row, size in long[:EXAMPLES])
        counts = {"limit": limit, "longest": most}
        yield CheckFinding(
            KIND, Severity.WARNING, sentence, tuple(row.id for row, _ in long), counts, examples, fixes=("drop",)
        )
