"""Contrastive training of few labelled texts: vectors of one label come together, those of others part.

The supervised contrastive loss (Khosla et al. 2020, arXiv:2004.11362) before a head is fitted, as SetFit does (Tunstall
et al. 2022, arXiv:2209.11055). Pairs are drawn label by label, a fixed number for a run: their number does not grow
with that of all pairs, or of labels.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmos.abi.method import method_of
from llmos.abi.recipe import Recipe
from llmos.nn.adapters.head import PooledHead
from llmos.tasks import Rendered
from llmos.training.candidate import Candidate
from llmos.training.examples import Example

if TYPE_CHECKING:
    from llmos.training.objectives.labels import LabelTarget

STEPS = 80  # of the optimizer
PAIRS = 32  # of a step
RATE = 1e-4  # the highest learning rate of a whole base
ADAPTER_SHARE = 0.3  # of an adapter's learning rate: at the whole, all vectors became one
TEMPERATURE = 0.1
APART = -1e9


@dataclass(frozen=True, slots=True)
class ContrastTarget:
    """The label that both texts of a pair have."""

    label: int


class ContrastiveLoss:
    """Of each text, how much nearer those of its label are than the others that the same worker computes with it."""

    prefers_later = True

    def normalizer(self, examples: Sequence[Example[ContrastTarget]]) -> float:
        return float(2 * len(examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[ContrastTarget]]) -> Tensor:
        labels = torch.tensor([one.target.label for one in examples for _ in one.sequences], device=given.device)
        itself = torch.eye(len(labels), dtype=torch.bool, device=given.device)
        nearness = (given @ given.T / TEMPERATURE).masked_fill(itself, APART)
        alike = (labels[:, None] == labels[None]) & ~itself
        shares = nearness - nearness.logsumexp(1, keepdim=True)
        return -((shares * alike).sum(1) / alike.sum(1).clamp(min=1)).sum()


def draw_pairs(examples: Sequence[Example[LabelTarget]], count: int, seed: int) -> list[Example[ContrastTarget]]:
    """So many pairs of texts of one label: every label as often, and in it every text."""
    shuffle = random.Random(f"{seed} pairs")
    by_label: dict[int, list[Example[LabelTarget]]] = {}
    for one in examples:
        by_label.setdefault(one.target.labels[0], []).append(one)
    turns = {label: _in_turn(rows, shuffle) for label, rows in by_label.items()}
    labels = _in_turn(sorted(by_label), shuffle)
    pairs = []
    for _ in range(count):
        label = next(labels)
        first, second = next(turns[label]), next(turns[label])
        pairs.append(Example(Rendered(first.ids, parts=(first.ids, second.ids)), ContrastTarget(label)))
    return pairs


def _in_turn(items: Sequence[Any], shuffle: random.Random) -> Iterator[Any]:  # Any: what is in it
    """All of them in random order, again and again."""
    order = list(items)
    while True:
        shuffle.shuffle(order)
        yield from order


def contrastive_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the contrastive steps before those of this recipe."""
    rate = recipe.learning_rate
    assert rate is not None
    rate = ADAPTER_SHARE * rate if method_of(recipe.method).keeps_base else min(rate, RATE)
    return replace(
        recipe, epochs=1.0, batch_size=PAIRS, learning_rate=rate, save_best=False, patience=None, label_smoothing=0.0
    )


def with_vectors(candidate: Candidate, head: PooledHead) -> Candidate:
    """The same weights, computing vectors of texts."""
    return Candidate(
        candidate.loaded,
        head,
        "bfloat16" if candidate.amp is not None else "float32",
        str(candidate.device),
        tuned=candidate.tuned,
        keeps_base=candidate.keeps_base,
        adapter=candidate.adapter,
    )
