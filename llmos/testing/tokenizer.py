"""A tokenizer with no vocabulary file: pieces of up to four characters, between one opening and one closing token."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from zlib import crc32

from llmos.abi.json_type import Json
from llmos.tasks import Encoded, EncodedPair, TokenPiece

OPEN, CLOSE, FIRST_FREE = 0, 1, 2
PIECE = re.compile(r"\S{1,4}")
WORD = re.compile(r"\S+")


class PieceTokenizer:
    """Deterministic; ids lie below `size`, and equal pieces have equal ids."""

    def __init__(self, size: int = 1000, *, closes: bool = True) -> None:
        self.size = size
        self.closes = closes
        self._pieces: dict[int, str] = {}

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]:
        return self.encode_words([text.split() for text in texts], special=special)

    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]:
        return [self._encode(words, special) for words in sentences]

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        """Opening, first text, closing, second text, closing; a piece's offsets are its own characters."""
        return [self._pair(first, second) for first, second in pairs]

    def _pair(self, first: str, second: str) -> EncodedPair:
        lead = self._encode(first.split(), True).ids
        spans = [
            (word.start() + piece.start(), word.start() + piece.end())
            for word in WORD.finditer(second)
            for piece in PIECE.finditer(word.group())
        ]
        tail = [CLOSE] if self.closes else []
        ids = [*lead, *self._encode(second.split(), False).ids, *tail]
        return EncodedPair(ids, [*[None for _ in lead], *spans, *[None for _ in tail]])

    def decode(self, ids: Sequence[int], *, skips_special: bool = True) -> str:
        return "".join(self._pieces.get(one, "") for one in ids)

    def name_of(self, token: int) -> str:
        return self._pieces.get(token, f"<{token}>")

    def pieces(self, text: str, *, special: bool = True) -> list[TokenPiece]:
        places = (
            (word.start() + piece.start(), word.start() + piece.end())
            for word in WORD.finditer(text)
            for piece in PIECE.finditer(word.group())
        )
        return [
            TokenPiece(i, f"<{i}>", True) if i < FIRST_FREE else _piece(i, text, *next(places))
            for i in self._encode(text.split(), special).ids
        ]

    longest = 4
    knows_tools = False
    has_template = True
    reader = None
    ends = frozenset({CLOSE})
    end_id = CLOSE

    @property
    def card(self) -> dict[str, Json]:
        return {"tokenizer_class": "PieceTokenizer", "eos_token": f"<{CLOSE}>"}

    def chat(
        self, messages: Sequence[dict[str, Json]], tools: Sequence[Json] = (), given: Mapping[str, Json] | None = None
    ) -> str:
        return self.chat_whole(messages) + "<assistant> "

    def chat_whole(self, messages: Sequence[dict[str, Json]], tools: Sequence[Json] = ()) -> str:
        return "".join(f"<{one['role']}> {one['content']} " for one in messages)

    def _encode(self, words: Sequence[str], special: bool) -> Encoded:
        ids, owners = [], []
        for index, word in enumerate(words):
            for piece in PIECE.findall(word):
                ids.append(FIRST_FREE + crc32(piece.encode()) % (self.size - FIRST_FREE))
                owners.append(index)
                self._pieces[ids[-1]] = piece
        if not special:
            return Encoded(ids, list(owners))
        tail: list[int] = [CLOSE] if self.closes else []
        return Encoded([OPEN, *ids, *tail], [None, *owners, *[None for _ in tail]])


def _piece(token: int, text: str, start: int, end: int) -> TokenPiece:
    return TokenPiece(token, text[start:end], False, start, end)
