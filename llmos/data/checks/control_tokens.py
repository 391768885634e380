"""Control tokens: texts with the names of the base's control tokens, left by an export or put there by someone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from llmos.data.checks.finding import EXAMPLES, CheckFinding, Severity
from llmos.data.checks.subject import Subject, show_row, texts_of

KIND = "control_tokens"
COMMON = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>",
    "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]",
)  # fmt: skip
MARKED = re.compile(r"[<\[{|]")  # only names with such a sign are meant: </s> is a token, and so may be a word


def find(subject: Subject) -> Iterator[CheckFinding]:
    """Rows in which one stands; those of the base, and well-known ones."""
    names = [one for one in dict.fromkeys((*subject.control_tokens, *COMMON)) if MARKED.search(one)]
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
    counts: Counter[str] = Counter()
    found = []
    for _, row in subject.rows:
        names_in = {name for text in texts_of(row) for name in pattern.findall(text)}
        if names_in and not subject.is_kept(KIND, row):
            counts.update(names_in)
            found.append(row)
    if found:
        said = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(6))
        sentence = (
            f"{len(found):,} rows have names of control tokens in their texts (rows: {said}). They are read as plain "
            "text here, and were probably left by an export"
        )
        examples = tuple({"id": row.id, "text": show_row(row)} for row in found[:EXAMPLES])
        yield CheckFinding(
            KIND, Severity.WARNING, sentence, tuple(row.id for row in found), dict(counts), examples, fixes=("drop",)
        )
