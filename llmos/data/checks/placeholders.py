"""Empty and placeholder texts: nothing but signs, "n/a", "TODO", "lorem ipsum" and the like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from llmos.abi.row_id import fold_text
from llmos.data.checks.finding import EXAMPLES, CheckFinding, Severity
from llmos.data.checks.subject import Subject, show_row, texts_of

KIND = "placeholders"
WORDS = frozenset(
    (
        "n/a", "na", "none", "null", "nil", "nan", "undefined", "todo", "tbd", "tba", "fixme", "xxx", "asdf", "test",
        "asdfasdf", "test test", "testing", "foo", "bar", "foo bar", "foobar", "placeholder", "dummy", "dummy text",
        "sample text", "example text", "text", "your text here", "insert text here", "enter text here", "(empty)",
        "empty", "no text", "no comment", "no comments", "no content", "not available", "not applicable", "unknown",
        "missing", "deleted", "[deleted]", "removed", "[removed]", "#n/a", "#ref!", "#name?", "#value!", "#null!",
        "#div/0!", "<na>", "无", "暂无", "测试", "测试测试", "没有", "空", "未知", "待补充", "占位符", "k.a.",
        "keine angabe",
    )
)  # fmt: skip
LOREM = re.compile(r"\blorem ipsum\b|\bdolor sit amet\b")
SIGN = re.compile(r"[^\W_]")


def find(subject: Subject) -> Iterator[CheckFinding]:
    """Rows of which a text says nothing."""
    counts: Counter[str] = Counter()
    found = []
    for _, row in subject.rows:
        reasons = {reason for text in texts_of(row) if (reason := emptiness(text))}
        if reasons and not subject.is_kept(KIND, row):
            counts.update(reasons)
            found.append(row)
    if found:
        said = ", ".join(f"{reason!r} {count:,}" for reason, count in counts.most_common(6))
        sentence = f"{len(found):,} rows have a text that says nothing (rows: {said})"
        examples = tuple({"id": row.id, "text": show_row(row)} for row in found[:EXAMPLES])
        yield CheckFinding(
            KIND, Severity.WARNING, sentence, tuple(row.id for row in found), dict(counts), examples, fixes=("drop",)
        )


def emptiness(text: str) -> str:
    """What stands for a text here: a placeholder, or signs alone; nothing for a text."""
    folded = fold_text(text)
    if not folded:
        return "empty"
    bare = folded.strip(" .,;:!?-_*\"'")
    if folded in WORDS or bare in WORDS:
        return bare or folded
    if LOREM.search(folded):
        return "lorem ipsum"
    if folded.isascii() and not SIGN.search(folded):
        return "signs alone"
    return ""
