"""Rows of tags with as many words as before, others in their places: the tags stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmos.data.augmentation.families.tags import TEXT, with_edits
from llmos.data.noise import Edit
from llmos.data.row import TagRow


def with_words(row: TagRow, words: Sequence[str]) -> TagRow | None:
    """The row with these words, one for each; None where nothing changes, or a text would split into others."""
    old = row.input["tokens"]
    if list(words) == old:
        return None
    if row.text is None:
        return replace(row, input={**row.input, "tokens": list(words)})
    changes = zip(row.offsets, old, words, strict=True)
    edits = [Edit(start, end, word) for (start, end), before, word in changes if before != word]
    changed = with_edits(row, {TEXT: edits})
    if changed is None or changed.input["tokens"] != list(words):
        return None
    return changed
