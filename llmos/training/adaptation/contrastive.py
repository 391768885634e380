"""Contrastive sentence training with in-batch negatives: two views of a text, or the two texts of a pair.

The views of one text differ by dropout alone (SimCSE, Gao et al. 2021, arXiv:2104.08821). The others that the same
worker computes with it are its negatives. With several lengths, vectors are cut to each, and the losses are averaged
(Matryoshka, Kusupati et al. 2022, arXiv:2205.13147).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from llmos.abi.adaptation import Adaptation
from llmos.abi.error import BadInput, BadSetting
from llmos.nn.adapters.head import PooledHead
from llmos.nn.load import Loaded
from llmos.tasks import Rendered
from llmos.training.adaptation import Learner, TextLoss, Windows
from llmos.training.candidate import Candidate
from llmos.training.examples import Example

TEMPERATURE = 0.05
APART = -1e9
MEASURED_AT_ONCE = 64  # texts: the negatives of each are the others


@dataclass(frozen=True, slots=True)
class ViewTarget:
    """What tells equal texts apart: the numbers of the first and of the second text."""

    first: int
    second: int


class InBatchLoss:
    """Of each first text, how much nearer its second one is than those of the others, at each of these lengths."""

    prefers_later = True

    def __init__(self, lengths: Sequence[int] = ()) -> None:
        self.lengths = tuple(lengths)

    def normalizer(self, examples: Sequence[Example[ViewTarget]]) -> float:
        return float(len(examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[ViewTarget]]) -> Tensor:
        return self.each(given, examples).sum()

    def each(self, given: Tensor, examples: Sequence[Example[ViewTarget]]) -> Tensor:
        """The loss of each example, from the vectors [2 n, size] of all its texts, in turn."""
        same = _same(examples).to(given.device)
        own = torch.arange(len(examples), device=given.device)
        losses = []
        for length in (*self.lengths, given.shape[1]):
            cut = normalize(given[:, :length].float(), dim=-1)
            nearness = (cut[::2] @ cut[1::2].T / TEMPERATURE).masked_fill(same, APART)
            losses.append(cross_entropy(nearness, own, reduction="none"))
        return torch.stack(losses).mean(0)


def _same(examples: Sequence[Example[ViewTarget]]) -> Tensor:
    """Where another example has an equal first or second text, which is no negative, [n, n]."""
    firsts = torch.tensor([one.target.first for one in examples])
    seconds = torch.tensor([one.target.second for one in examples])
    same = (firsts[:, None] == firsts[None]) | (seconds[:, None] == seconds[None])
    return same & ~torch.eye(len(examples), dtype=torch.bool)


def learner(wanted: Adaptation, loaded: Loaded, source: str, pooling: str, texts: Sequence[Windows]) -> Learner:
    if loaded.causal is not None:
        raise BadInput(
            f"{wanted.base} writes, and gives no vectors. Take the objective causal, or a base that embeds",
            key="objective",
            value=wanted.objective,
        )
    too_long = [one for one in wanted.matryoshka if one >= loaded.hidden_size]
    if too_long:
        raise BadSetting(
            f"matryoshka has {too_long[0]}, and vectors of {wanted.base} have {loaded.hidden_size} dimensions. Name "
            "shorter lengths; the whole is always learned",
            key="matryoshka",
            value=list(wanted.matryoshka),
            expected=f"under {loaded.hidden_size}",
        )
    head = PooledHead(pooling)
    if not wanted.pairs:
        _check_dropout(wanted, loaded, head, next(one for one in texts if one)[0])
    return Learner(head, False, InBatchLoss(wanted.matryoshka))


@torch.no_grad()
def _check_dropout(wanted: Adaptation, loaded: Loaded, head: PooledHead, ids: list[int]) -> None:
    """BadInput for a base without dropout: both views of a text would be the same."""
    candidate = Candidate(loaded, head, "float32", "cpu0" if loaded.device.type == "cpu" else "cuda0")
    candidate.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, other = candidate.logits([ids, ids])
    if torch.allclose(one, other, atol=1e-5):
        raise BadInput(
            f"{wanted.base} has no dropout, so two views of a text are the same. Give texts in pairs: pairs, with text "
            "naming the two columns",
            key="objective",
            value=wanted.objective,
            reason="no_dropout",
        )


def examples(wanted: Adaptation, loaded: Loaded, texts: Sequence[Windows]) -> list[Example[ViewTarget]]:
    """One of each text, of its first window; of a pair, one of the first windows of both."""
    numbers: dict[tuple[int, ...], int] = {}
    made = []
    for windows in texts:
        first, second = (windows[0], windows[1]) if wanted.pairs else (windows[0], windows[0])
        target = ViewTarget(*(numbers.setdefault(tuple(ids), len(numbers)) for ids in (first, second)))
        made.append(Example(Rendered(first, parts=(first, second)), target))
    return made


@torch.inference_mode()
def measure(wanted: Adaptation, candidate: Candidate, texts: Sequence[Windows], *, rounds: int = 1) -> list[TextLoss]:
    """Views of one text differ by the same dropout whatever the weights."""
    drawn, found = examples(wanted, candidate.loaded, texts), []
    loss = InBatchLoss(wanted.matryoshka)
    with torch.random.fork_rng(devices=[]):
        candidate.train(not wanted.pairs)
        for start in range(0, len(drawn), MEASURED_AT_ONCE):
            torch.manual_seed(wanted.seed + start)
            some = drawn[start : start + MEASURED_AT_ONCE]
            each = loss.each(candidate.logits([ids for one in some for ids in one.sequences]), some)
            found += [TextLoss(float(one), 1) for one in each]
        candidate.train(False)
    return found
