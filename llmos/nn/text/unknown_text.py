"""Unknown text: what a tokenizer reads as its one token for all that it does not know, or byte by byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer

MUCH = 0.1  # of the characters: a base that does not know these cannot tell many words apart
SHOWN = 8
BLOCK_TEXTS = 1024
MOST_CHARS = 4096  # of a text that is looked at


@dataclass(frozen=True, slots=True)
class UnknownText:
    """Of each text, how many characters are unknown and how many there are, white space apart; and the commonest."""

    counts: tuple[tuple[int, int], ...]
    common: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """The share of all characters that are unknown; 0 without any character."""
        return sum(unknown for unknown, _ in self.counts) / max(1, sum(all for _, all in self.counts))

    @property
    def examples(self) -> tuple[str, ...]:
        return tuple(character for character, _ in self.common.most_common(SHOWN))


class UnknownTokens:
    """Tokens that stand for what a vocabulary lacks: its unknown token, and those with a mere part of a character."""

    def __init__(self, unknown_id: int | None, bytes_of: Callable[[int], bytes]) -> None:
        self._unknown_id = unknown_id
        self._bytes_of = bytes_of
        self._parts: dict[int, bool] = {}  # of the tokens seen so far: whether each is a part of a character

    def count(self, ids: Sequence[int]) -> int:
        """How many of these tokens there are."""
        parts = self._parts
        for token in {*ids} - parts.keys():
            parts[token] = token == self._unknown_id or not _is_whole(self._bytes_of(token))
        return sum(map(parts.__getitem__, ids))


def _is_whole(written: bytes) -> bool:
    try:
        written.decode()
    except UnicodeDecodeError:
        return False
    return True


def find_unknown(fast: Tokenizer, unknown_token: str | None, texts: Sequence[str]) -> UnknownText:
    """Count in the beginnings of these texts; nothing is unknown to a tokenizer without such a token."""
    unknown_id = None if unknown_token is None else fast.token_to_id(unknown_token)
    counts: list[tuple[int, int]] = []
    common: Counter[str] = Counter()
    for start in range(0, len(texts), BLOCK_TEXTS):
        block = [text[:MOST_CHARS] for text in texts[start : start + BLOCK_TEXTS]]
        for text, encoding in zip(block, fast.encode_batch(block, add_special_tokens=False), strict=True):
            unknown: Counter[str] = Counter()
            for id, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
                if id == unknown_id and text[begin:end] != unknown_token:  # a text may have its name
                    unknown.update("".join(text[begin:end].split()))
            common.update(unknown)
            counts.append((unknown.total(), sum(map(len, text.split()))))
    return UnknownText(tuple(counts), common)


def unknown_note(found: UnknownText, base: str) -> str:
    """A sentence for a base that knows too few of these texts' characters; empty for one that knows enough."""
    if found.share < MUCH:
        return ""
    return (
        f"{found.share:.0%} of the characters in the training texts are unknown to {base}'s tokenizer "
        f"({' '.join(found.examples)} ...): it reads them all as one token, and cannot tell such words apart. "
        "Choose a base that was made for this language or script"
    )
