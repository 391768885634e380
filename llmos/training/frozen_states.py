"""What a frozen base gives each example, computed once: a training of the head alone needs nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from llmos.nn.adapters.head import SequenceHead, TokenHead
from llmos.nn.packing import cut_rows, pool
from llmos.training.candidate import Candidate
from llmos.training.examples import Example

MOST_BYTES = 256 << 20  # of vectors; where there would be more, each pass computes the base again
ROW_TOKENS = 1024  # of a packed row


class FrozenStates:
    """A vector of each sequence of the examples, or of each token where the head reads tokens: [vectors, hidden].

    The base computes them without dropout, as it does in serving.
    """

    def __init__(self, candidate: Candidate, examples: Sequence[Example[Any]]) -> None:  # Any: targets of the family
        self._candidate, self._head = candidate, candidate.head
        self._sequences = [ids for one in examples for ids in one.sequences]
        self._firsts = [0, *accumulate(len(one.sequences) for one in examples)]
        self._lengths = [1] * len(self._sequences)
        if isinstance(self._head, TokenHead):
            self._lengths = [len(ids) for ids in self._sequences]
        self._starts = [0, *accumulate(self._lengths)]
        self._states = torch.empty(0)

    @property
    def is_kept(self) -> bool:
        return len(self._states) > 0

    def compute(self, on_done: Callable[[int, int], bool]) -> bool:
        """Compute all vectors; `on_done` hears how many sequences of all are done, and says whether to stop.

        False if it has stopped; then nothing is kept.
        """
        lengths = [len(ids) for ids in self._sequences]
        states = torch.empty(self._starts[-1], self._candidate.loaded.hidden_size)
        done = 0
        for row in cut_rows(sorted(range(len(lengths)), key=lengths.__getitem__), lengths, ROW_TOKENS):
            with torch.no_grad():
                hidden = self._candidate.hidden_states([self._sequences[i] for i in row])
            if isinstance(self._head, SequenceHead):
                hidden = pool(hidden, [lengths[i] for i in row], self._head.pooling)
            parts = torch.split(hidden.float().cpu(), [self._lengths[i] for i in row])
            for i, part in zip(row, parts, strict=True):
                states[self._starts[i] : self._starts[i + 1]] = part
            done += len(row)
            if on_done(done, len(lengths)):
                return False
        self._states = states
        return True

    def logits(self, examples: Sequence[int]) -> Tensor:
        """The head's logits for these examples, as `Candidate.logits` gives for their sequences."""
        places = [i for one in examples for i in range(self._firsts[one], self._firsts[one + 1])]
        parts = [self._states[self._starts[i] : self._starts[i + 1]] for i in places]
        found: Tensor = self._head(torch.cat(parts).to(self._candidate.device), [self._lengths[i] for i in places])
        return found


def states_for(
    candidate: Candidate, examples: Sequence[Example[Any]], most_bytes: int = MOST_BYTES
) -> FrozenStates | None:
    """The states to be computed where only the head is trained, and all of them fit into the memory for them."""
    is_head_alone = candidate.keeps_base and candidate.tuned is None and candidate.loaded.reader is None
    if not is_head_alone or not isinstance(candidate.head, SequenceHead | TokenHead):
        return None
    is_token = isinstance(candidate.head, TokenHead)
    vectors = sum(one.size if is_token else len(one.sequences) for one in examples)
    bytes_all = vectors * candidate.loaded.hidden_size * 4
    return FrozenStates(candidate, examples) if 0 < bytes_all <= most_bytes else None
