"""Two texts as one sequence: where the second lies, and how it is cut: the first stays whole."""

from __future__ import annotations

from collections.abc import Container, Sequence

from llmos.tasks import EncodedPair, Settings, Tokenizer
from llmos.tasks.text import Naming, limit_of, may_cut, name_text, part_of, too_long

LEAST = 8  # the least tokens of the second text after a cut


def second_of(pair: EncodedPair) -> tuple[int, int]:
    """The tokens of the second text, as (first, after the last)."""
    inside = [i for i, span in enumerate(pair.offsets) if span is not None]
    return (inside[0], inside[-1] + 1) if inside else (len(pair.ids), len(pair.ids))


def encoded_pairs(
    pairs: Sequence[tuple[str, str]], what: str | Naming, tokenizer: Tokenizer, settings: Settings
) -> list[list[int]]:
    """The pairs as tokens, each within the limit; a text far beyond it is not tokenized whole."""
    limit, cuts = limit_of(settings), may_cut(settings)
    parts = [
        (
            part_of(first, name_text(what, i), tokenizer, limit, settings, cuts=False),
            part_of(second, name_text(what, i), tokenizer, limit, settings, cuts=cuts),
        )
        for i, (first, second) in enumerate(pairs)
    ]
    cut = {i for i, (part, pair) in enumerate(zip(parts, pairs, strict=True)) if [*map(len, part)] != [*map(len, pair)]}
    return fitted_pairs(tokenizer.encode_pairs(parts), what, settings, cut=cut)


def fitted_pairs(
    pairs: Sequence[EncodedPair], what: str | Naming, settings: Settings, *, cut: Container[int] = ()
) -> list[list[int]]:
    """The pairs' tokens, each within the limit; the end of the second text is cut if that is allowed."""
    limit = limit_of(settings)
    return [
        pair.ids if len(pair.ids) <= limit else _cut(pair, name_text(what, i), limit, settings, is_whole=i not in cut)
        for i, pair in enumerate(pairs)
    ]


def _cut(pair: EncodedPair, what: str, limit: int, settings: Settings, *, is_whole: bool) -> list[int]:
    first, after = second_of(pair)
    keep = limit - (len(pair.ids) - (after - first))
    if not may_cut(settings) or keep < LEAST:
        raise too_long(what, len(pair.ids), limit, is_whole=is_whole)
    return pair.ids[: first + keep] + pair.ids[after:]
