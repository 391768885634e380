"""Causal language modelling of raw text: each token is guessed from those before it in its window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from llmos.abi.adaptation import Adaptation
from llmos.nn.load import Loaded
from llmos.nn.next_token import NextHead
from llmos.nn.packing import cut_rows
from llmos.tasks import Rendered
from llmos.training.adaptation import Learner, TextLoss, Windows
from llmos.training.candidate import Candidate
from llmos.training.examples import Example


@dataclass(frozen=True, slots=True)
class WindowTarget:
    """How many tokens of a window are to be guessed: all but the first."""

    count: int


class CausalLoss:
    """Cross-entropy of each token of a window but the first."""

    prefers_later = False

    def __init__(self, head: NextHead) -> None:
        self.head = head

    def normalizer(self, examples: Sequence[Example[WindowTarget]]) -> float:
        return float(sum(one.target.count for one in examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[WindowTarget]]) -> Tensor:
        return self.head.sum_losses(*_with_next_tokens(given, [one.ids for one in examples]))


def _with_next_tokens(given: Tensor, windows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """The hidden states that another token of the same window follows, and these tokens."""
    starts = list(accumulate(map(len, windows), initial=0))
    places = [start + i for start, ids in zip(starts, windows, strict=False) for i in range(len(ids) - 1)]
    tokens = [token for ids in windows for token in ids[1:]]
    return given[torch.tensor(places, device=given.device)], torch.tensor(tokens, device=given.device)


def learner(wanted: Adaptation, loaded: Loaded, source: str, pooling: str, texts: Sequence[Windows]) -> Learner:
    head = NextHead(loaded)  # BadInput for a base that does not write
    head.check(loaded)
    return Learner(head, False, CausalLoss(head))


def examples(wanted: Adaptation, loaded: Loaded, texts: Sequence[Windows]) -> list[Example[WindowTarget]]:
    return [Example(Rendered(ids), WindowTarget(len(ids) - 1)) for windows in texts for ids in windows]


@torch.inference_mode()
def measure(wanted: Adaptation, candidate: Candidate, texts: Sequence[Windows], *, rounds: int = 1) -> list[TextLoss]:
    owned = [(i, ids) for i, windows in enumerate(texts) for ids in windows]
    totals, counts = [0.0] * len(texts), [0] * len(texts)
    lengths = [len(ids) for _, ids in owned]
    order = sorted(range(len(owned)), key=lengths.__getitem__)
    for row in cut_rows(order, lengths, wanted.spec.token_budget):
        some = [owned[i][1] for i in row]
        losses = candidate.next_head.losses(*_with_next_tokens(candidate.logits(some), some))
        for i, part in zip(row, torch.split(losses, [len(ids) - 1 for ids in some]), strict=True):
            totals[owned[i][0]] += float(part.sum())
            counts[owned[i][0]] += len(part)
    return [TextLoss(total, count) for total, count in zip(totals, counts, strict=True)]
