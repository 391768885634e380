"""The null engine's tokenizer: one token a word, whose id is the word's hash. Text cannot be made of hashes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.engines.tokenization import no_tokenizer
from llmos.tasks import Encoded, EncodedPair, TokenPiece

WORD = re.compile(r"\S+")


class WordTokenizer:
    """Implements tasks.Tokenizer for one model."""

    size = 1 << 31
    longest = 1 << 16
    knows_tools = True
    has_template = True
    reader = None

    def __init__(self, model: str) -> None:
        self._model = model

    @property
    def card(self) -> dict[str, Json]:
        return {"tokenizer_class": "WordTokenizer", "eos_token": None}

    def parsing(self) -> WordTokenizer:
        """Itself: words have no control tokens."""
        return self

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]:
        return [Encoded([_id(word) for word in text.split()]) for text in texts]

    def pieces(self, text: str, *, special: bool = True) -> list[TokenPiece]:
        return [TokenPiece(_id(one[0]), one[0], False, *one.span()) for one in WORD.finditer(text)]

    def name_of(self, token: int) -> str:
        return f"<{token}>"

    def chat(
        self, messages: Sequence[dict[str, Json]], tools: Sequence[Json] = (), given: Mapping[str, Json] | None = None
    ) -> str:
        said = [f"tool: {one['function']['name']}" for one in tools]
        return "\n".join([*said, *(f"{one['role']}: {one['content']}" for one in messages)])

    def decode(self, ids: Sequence[int], *, skips_special: bool = True) -> str:
        raise no_tokenizer(self._model, "the null engine's tokens are hashes of words")

    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]:
        raise BadInput("The null engine reads no words")

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        raise BadInput("The null engine reads no pairs")


def _id(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big") >> 1
