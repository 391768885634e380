"""Log-probabilities of sampled tokens, released together with the text they belong to."""

from __future__ import annotations

from collections import deque

from llmos.abi.json_type import Json
from llmos.nn.generation.sampling import TokenLogprob
from llmos.nn.text.tokenizer import FastTokenizer


class Logprobs:
    """The log-probability entries of one answer.

    Tokens of a stop string are not released, and neither are their entries.
    """

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()

    def add(self, scored: TokenLogprob | None, start: int) -> None:
        """Add the entry of a token whose text begins after `start` characters of the answer."""
        if scored is not None:
            self._waiting.append((start, scored))

    def entries_up_to(self, chars: int, *, is_all: bool) -> list[Json]:
        """The entries that belong to the first `chars` characters and were not returned before; all of them if
        `is_all`."""
        gone = []
        while self._waiting and (is_all or self._waiting[0][0] < chars):
            gone.append(self._entry(self._waiting.popleft()[1]))
        return gone

    def _entry(self, scored: TokenLogprob) -> Json:
        top = [token_entry(self._tokenizer, token, logprob) for token, logprob in scored.top]
        return {**token_entry(self._tokenizer, scored.token, scored.logprob), "top_logprobs": top}


def token_entry(tokenizer: FastTokenizer, token: int, logprob: float | None) -> dict[str, Json]:
    """A token with its log-probability; None for the first one of a text, which nothing precedes."""
    data = tokenizer.bytes_of(token)
    return {"token": data.decode(errors="replace"), "bytes": list(data), "logprob": logprob}
