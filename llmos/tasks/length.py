"""How many tokens an input may have: more are refused with the numbers, or cut where the options say so.

A text far beyond the limit is not tokenized whole: a part of it that has twice as many tokens as may be says enough.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from llmos.abi.error import TooLong
from llmos.tasks import Encoded, Settings, Tokenizer

PROBE_CHARS = 16  # of a text for each token that it may have: several times what a token has in most texts
LEAST_PROBE = 256  # tokens
Naming = Callable[[int], str]  # what a refusal calls the text of this number


def limit_of(settings: Settings) -> int:
    """The most tokens one input may have: what the option says, and never more than the model takes."""
    return min(int(settings.options.get("max_tokens") or settings.max_tokens), settings.max_tokens)


def may_cut(settings: Settings) -> bool:
    return bool(settings.options.get("truncate", False))


def too_long(
    what: str,
    size: int,
    limit: int,
    settings: Settings = Settings(),
    *,
    is_whole: bool = True,
    context: int | None = None,
) -> TooLong:
    """The refusal; only a fine-tuned model has options, so that only there one of them is a way out.

    `context`: what the model takes in all, where an answer needs some of it.
    """
    way_out = "Shorten it, or send it in parts"
    if settings.labels:
        way_out = "Shorten it, or train the model with --set truncate=true to have texts cut"
    has = f"{size:,}" if is_whole else f"more than {size:,}"  # of the part that was tokenized
    detail = {"size": size, "limit": limit} | ({} if context is None else {"context": context})
    return TooLong(f"{what} has {has} tokens; the model takes {limit:,}. {way_out}", **detail)


def named(what: str | Naming, number: int) -> str:
    """What a refusal calls this text."""
    return what if isinstance(what, str) else what(number)


def part_of(text: str, tokenizer: Tokenizer, limit: int, *, is_end: bool = False) -> str:
    """The text, or so much of its beginning (or end) as has twice the tokens that the limit allows.

    No bound on the characters of a token is sound for every vocabulary (an unknown word is one token, blanks may be
    none), so parts are tokenized, each four times as long as the last, until one has enough.
    """
    size = PROBE_CHARS * max(limit, LEAST_PROBE)
    while size < len(text):
        part = text[-size:] if is_end else text[:size]
        (encoded,) = tokenizer.encode([part], special=False)
        if len(encoded.ids) > 2 * limit:
            return part
        size *= 4
    return text


def encoded(texts: Sequence[str], what: str | Naming, tokenizer: Tokenizer, settings: Settings) -> list[Encoded]:
    """The texts as tokens, each within the limit: its start is kept, and the special tokens that end every text."""
    parts = [part_of(text, tokenizer, limit_of(settings)) for text in texts]
    cut = {i for i, (part, text) in enumerate(zip(parts, texts, strict=True)) if len(part) < len(text)}
    return fitted(tokenizer.encode(parts), what, tokenizer, settings, cut=cut)


def fitted(
    encoded: Sequence[Encoded],
    what: str | Naming,
    tokenizer: Tokenizer,
    settings: Settings,
    *,
    cut: Container[int] = (),
) -> list[Encoded]:
    """The same texts, each within the limit, or the refusal of the first that is not; `cut`: those that were a part."""
    limit = limit_of(settings)
    long = next((i for i, one in enumerate(encoded) if len(one.ids) > limit), None)
    if long is None:
        return list(encoded)
    if not may_cut(settings):
        raise too_long(named(what, long), len(encoded[long].ids), limit, settings, is_whole=long not in cut)
    tail = _ending(tokenizer)
    return [one if len(one.ids) <= limit else _cut(one, limit, tail) for one in encoded]


def _cut(one: Encoded, limit: int, tail: int) -> Encoded:
    tail = min(tail, limit)
    keep, end = limit - tail, len(one.ids) - tail
    return Encoded(one.ids[:keep] + one.ids[end:], one.words[:keep] + one.words[end:] if one.words else [])


def _ending(tokenizer: Tokenizer) -> int:
    """How many special tokens close every text: what an empty text and another one have in common at their ends."""
    empty, other = (one.ids for one in tokenizer.encode(["", "a"]))
    count = 0
    while count < len(empty) and empty[-1 - count] == other[-1 - count]:
        count += 1
    return count
