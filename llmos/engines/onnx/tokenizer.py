"""A tokenizer for graphs that read strings themselves: one token per byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks import Encoded, EncodedPair, TokenPiece


class Bytes:
    """Implements tasks.Tokenizer."""

    size = 256
    longest = 1
    knows_tools = False
    has_template = False
    reader = None

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]:
        return [Encoded(list(text.encode("utf-8", "replace"))) for text in texts]

    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]:
        raise BadInput("This graph reads whole texts, and no words. Use one that reads tokens")

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        raise BadInput("This graph reads one text at a time, and no pairs. Use one that reads tokens")

    def parsing(self) -> Bytes:
        """Itself: bytes have no control tokens."""
        return self

    def decode(self, ids: Sequence[int], *, skips_special: bool = True) -> str:
        return bytes(ids).decode(errors="replace")

    @property
    def card(self) -> dict[str, Json]:
        return {"tokenizer_class": "Bytes", "eos_token": None}

    def name_of(self, token: int) -> str:
        return f"<0x{token:02X}>"

    def pieces(self, text: str, *, special: bool = True) -> list[TokenPiece]:
        return [TokenPiece(byte, letter, False, i, i + 1) for i, letter in enumerate(text) for byte in letter.encode()]

    def chat(
        self, messages: Sequence[dict[str, Json]], tools: Sequence[Json] = (), given: Mapping[str, Json] | None = None
    ) -> str:
        raise BadInput("An ONNX graph does not chat. Choose a base that does: llmos pull smollm2")
