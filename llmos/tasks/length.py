"""How many tokens an input may have: more are refused with the numbers, or cut where the options say so."""

from __future__ import annotations

from collections.abc import Sequence

from llmos.abi.error import TooLong
from llmos.tasks import Encoded, Settings, Tokenizer


def limit_of(settings: Settings) -> int:
    """The most tokens one input may have: what the option says, and never more than the model takes."""
    return min(int(settings.options.get("max_tokens") or settings.max_tokens), settings.max_tokens)


def may_cut(settings: Settings) -> bool:
    return bool(settings.options.get("truncate", False))


def too_long(what: str, size: int, limit: int, settings: Settings = Settings()) -> TooLong:
    """The refusal; only a fine-tuned model has options, so that only there one of them is a way out."""
    way_out = "Shorten it, or send it in parts"
    if settings.labels:
        way_out = "Shorten it, or train the model with --set truncate=true to have texts cut"
    return TooLong(f"{what} has {size:,} tokens; the model takes {limit:,}. {way_out}", size=size, limit=limit)


def fitted(encoded: Sequence[Encoded], what: str, tokenizer: Tokenizer, settings: Settings) -> list[Encoded]:
    """The same texts, each within the limit: its start is kept, and the special tokens that end every text."""
    limit = limit_of(settings)
    longest = max((len(one.ids) for one in encoded), default=0)
    if longest <= limit:
        return list(encoded)
    if not may_cut(settings):
        raise too_long(what, longest, limit, settings)
    tail = _ending(tokenizer)
    return [one if len(one.ids) <= limit else _cut(one, limit, tail) for one in encoded]


def _cut(one: Encoded, limit: int, tail: int) -> Encoded:
    keep = limit - tail
    end = len(one.ids) - tail
    return Encoded(one.ids[:keep] + one.ids[end:], one.words[:keep] + one.words[end:] if one.words else [])


def _ending(tokenizer: Tokenizer) -> int:
    """How many special tokens close every text: what an empty text and another one have in common at their ends."""
    empty, other = (one.ids for one in tokenizer.encode(["", "a"]))
    count = 0
    while count < len(empty) and empty[-1 - count] == other[-1 - count]:
        count += 1
    return count
