"""A prompt that its answer repeats (`echo`): its text, where each token begins in it, and how likely each token was.

The log-probability of a token comes from the logits after the token before it. So the first one has none, and the
logits after every token of such a prompt are needed, not only the last one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from torch import Tensor

from llmos.abi.json_type import Json
from llmos.nn.generation.logprobs import token_entry
from llmos.nn.generation.sampling import TokenLogprob, score_all
from llmos.nn.text.tokenizer import FastTokenizer


class Echo:
    """The echo of one prompt: `text` in front of the answer, and the entries of its tokens once all are scored."""

    def __init__(self, ids: Sequence[int], text: str | None, tokenizer: FastTokenizer, top: int | None) -> None:
        """`text` None: it is made of the tokens. `top` None: no log-probabilities are wanted."""
        self._ids = ids
        self._tokenizer = tokenizer
        self._top = top
        self._scored: list[TokenLogprob] = []  # of the second token and those after it
        self.text = tokenizer.decode(ids, skips_special=False) if text is None else text

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self._ids)

    @property
    def remaining(self) -> int:
        """The number of tokens that are still to be scored."""
        return 0 if self._top is None else max(0, len(self._ids) - 1 - len(self._scored))

    @property
    def scored_count(self) -> int:
        """The number of first tokens whose logits are needed no more."""
        return len(self._ids) if not self.remaining else len(self._scored)

    def score(self, start: int, logits: Tensor) -> None:
        """Score the tokens behind those from `start` on, whose logits these are, [tokens, vocabulary]."""
        first = len(self._scored)
        targets = self._ids[first + 1 : max(0, start + len(logits) + 1)]
        if self._top is not None and targets:
            self._scored += score_all(logits[first - start : first - start + len(targets)], targets, self._top)

    def entries(self) -> list[Json]:
        """An entry for each token, with `text_offset`, the place in the text where it begins."""
        offsets = offsets_of(self.text, [self._tokenizer.bytes_of(token) for token in self._ids])
        none = [] if self._top is None else [None]
        return [
            {**self._entry(token, one), "text_offset": at}
            for token, one, at in zip(self._ids, chain(none, self._scored), offsets, strict=False)
        ]

    def _entry(self, token: int, scored: TokenLogprob | None) -> dict[str, Json]:
        if scored is None:
            return {**token_entry(self._tokenizer, token, None), "top_logprobs": []}
        top = [token_entry(self._tokenizer, other, logprob) for other, logprob in scored.top]
        return {**token_entry(self._tokenizer, token, scored.logprob), "top_logprobs": top}


def offsets_of(text: str, pieces: Sequence[bytes]) -> list[int]:
    """The character of the text where each piece begins.

    A piece that is not there (a token that was added around the text) begins where the next one does and has no width.
    A part of a character begins at that character.
    """
    data, at, letters = text.encode(errors="replace"), 0, 0
    offsets = []
    for piece in pieces:
        if piece.startswith(b" ") and not data.startswith(piece, at) and data.startswith(piece[1:], at):
            piece = piece[1:]  # the space that SentencePiece puts before a text
        if not data.startswith(piece, at):
            offsets.append(letters)
            continue
        is_part = bool(piece) and piece[0] & 0xC0 == 0x80
        offsets.append(letters - is_part)
        letters += sum(byte & 0xC0 != 0x80 for byte in piece)
        at += len(piece)
    return offsets
