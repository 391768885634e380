"""Texts as windows of tokens: long ones are cut, and each window is framed as the tokenizer frames a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from llmos.nn.text.tokenizer import FastTokenizer

AT_ONCE = 1024
LEAST_TOKENS = 2  # of a window, without its frame


@dataclass(frozen=True, slots=True)
class Frame:
    """The tokens that the tokenizer puts before and after a text."""

    opens: tuple[int, ...]
    closes: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.opens) + len(self.closes)

    def around(self, ids: Sequence[int]) -> list[int]:
        return [*self.opens, *ids, *self.closes]

    def places(self, length: int) -> range:
        """Where the text's own tokens stand in a window of this length."""
        return range(len(self.opens), length - len(self.closes))


def frame_of(tokenizer: FastTokenizer) -> Frame:
    whole, bare = (tokenizer.encode(["a"], special=special)[0].ids for special in (True, False))
    at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return Frame(tuple(whole[:at]), tuple(whole[at + len(bare) :]))


def cut_windows(tokenizer: FastTokenizer, texts: Sequence[str], limit: int) -> list[list[list[int]]]:
    """The windows of each text, of at most `limit` tokens with their frame, of nearly equal lengths.

    None of a text that has fewer than two tokens.
    """
    frame, found = frame_of(tokenizer), []
    room = limit - frame.size
    for start in range(0, len(texts), AT_ONCE):
        for encoded in tokenizer.encode(texts[start : start + AT_ONCE], special=False):
            ids = encoded.ids
            parts = -(-len(ids) // room)
            cuts = [i * len(ids) // parts for i in range(parts + 1)] if parts else []
            windows = [ids[a:b] for a, b in pairwise(cuts)]
            found.append([frame.around(one) for one in windows if len(one) >= LEAST_TOKENS])
    return found
