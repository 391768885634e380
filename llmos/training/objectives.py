"""Training objectives: one loss per task, summed over micro-batches (gradient accumulation), normalized once a step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from llmos.abi.recipe import Recipe
from llmos.nn.next_token import NextHead
from llmos.tasks.answer import NOWHERE
from llmos.training.examples import IGNORED, Example


class Loss(Protocol):
    """A step is computed in passes; each pass's sum is divided by the mass of the whole step."""

    def normalizer(self, examples: Sequence[Example]) -> float:
        """What the examples weigh together: the step's denominator."""
        ...

    def __call__(self, given: Tensor, examples: Sequence[Example]) -> Tensor:
        """Of what the candidate gave for these examples: summed, not yet divided by the step's mass."""
        ...


def loss_of(recipe: Recipe, labels: int, weights: Tensor | None = None, head: object = None) -> Loss:
    """The loss that this recipe trains by; where it is in the words of an answer, the head says what each costs."""
    if isinstance(head, NextHead):
        return WordLoss(head)
    match recipe.task:
        case "answer":
            return SpanLoss()
        case "rerank":
            return GradeLoss()
        case "similarity":
            return CosineLoss()
        case _:
            return LabelLoss(recipe, labels, weights)


class LabelLoss:
    """Cross-entropy over labels, of texts or of words; over each label apart where a text may have many."""

    def __init__(self, recipe: Recipe, labels: int, weights: Tensor | None) -> None:
        self.many = recipe.task == "classify" and bool(recipe.options.get("multi_label", False))
        self.labels = labels
        self.smoothing = recipe.label_smoothing
        self.weights = weights

    def normalizer(self, examples: Sequence[Example]) -> float:
        if self.many:
            return float(len(examples) * self.labels)
        targets = torch.tensor([t for one in examples for t in _flat(one.target) if t != IGNORED], dtype=torch.long)
        return float(len(targets) if self.weights is None else self.weights.cpu()[targets].sum())

    def __call__(self, given: Tensor, examples: Sequence[Example]) -> Tensor:
        if self.many:
            wanted = torch.zeros(len(examples), self.labels)
            for i, one in enumerate(examples):
                wanted[i, _flat(one.target)] = 1.0
            wanted = wanted * (1 - self.smoothing) + self.smoothing / 2
            return functional.binary_cross_entropy_with_logits(given, wanted.to(given.device), reduction="sum")
        targets = torch.tensor([t for one in examples for t in _flat(one.target)], device=given.device)
        return functional.cross_entropy(
            given, targets, self.weights, ignore_index=IGNORED, reduction="sum", label_smoothing=self.smoothing
        )


class GradeLoss:
    """Binary cross-entropy of a pair's one logit against its grade, scaled to 0 to 1."""

    def normalizer(self, examples: Sequence[Example]) -> float:
        return float(len(examples))

    def __call__(self, given: Tensor, examples: Sequence[Example]) -> Tensor:
        return functional.binary_cross_entropy_with_logits(given[:, 0], _numbers(examples, given), reduction="sum")


class SpanLoss:
    """Cross-entropy of where an answer starts and of where it ends, over each window's passage and nowhere."""

    def normalizer(self, examples: Sequence[Example]) -> float:
        return float(sum(len(one.sequences) for one in examples))

    def __call__(self, given: Tensor, examples: Sequence[Example]) -> Tensor:
        windows = [window for one in examples for window in one.rendered.context.windows]
        targets = [at for one in examples for at in _flat(one.target)]
        total = given.new_zeros(())
        for i, logits in enumerate(torch.split(given, [len(ids) for one in examples for ids in one.sequences])):
            first = windows[i].first
            open_to = torch.cat((logits[:1], logits[first : first + len(windows[i].offsets)]))
            wanted = [at - first + 1 if at else NOWHERE for at in targets[2 * i : 2 * i + 2]]
            total = total + functional.cross_entropy(
                open_to.T, torch.tensor(wanted, device=given.device), reduction="sum"
            )
        return total / 2


class CosineLoss:
    """The squared distance of two vectors' cosine to the pair's score (Reimers and Gurevych 2019, arXiv:1908.10084).

    Unlike losses that compare the pairs of a batch with each other, it adds up over passes.
    """

    def normalizer(self, examples: Sequence[Example]) -> float:
        return float(len(examples))

    def __call__(self, given: Tensor, examples: Sequence[Example]) -> Tensor:
        cosines = (given[0::2] * given[1::2]).sum(-1)
        return functional.mse_loss(cosines, _numbers(examples, given), reduction="sum")


class WordLoss:
    """Cross-entropy of each token that is learnt; what is only read costs nothing."""

    def __init__(self, head: NextHead) -> None:
        self.head = head

    def normalizer(self, examples: Sequence[Example]) -> float:
        return float(sum(len(_flat(one.target)) for one in examples))

    def __call__(self, given: Tensor, examples: Sequence[Example]) -> Tensor:
        return self.head.summed(*supervised_tokens(given, examples))


def supervised_tokens(given: Tensor, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """The hidden states of a row at the places where something is learnt, and what that is."""
    lessons = [lesson for one in examples for lesson in one.rendered.context]
    starts = accumulate((len(lesson.ids) for lesson in lessons), initial=0)
    places = [start + at for start, lesson in zip(starts, lessons, strict=False) for at in lesson.places]
    targets = [target for lesson in lessons for target in lesson.targets]
    return given[torch.tensor(places, device=given.device)], torch.tensor(targets, device=given.device)


def balance_labels(examples: Sequence[Example], labels: int) -> Tensor:
    """Weights that make every label count alike, one on average over the examples; a label never seen weighs one."""
    counts = torch.zeros(labels)
    for one in examples:
        for target in _flat(one.target):
            if target != IGNORED:
                counts[target] += 1
    weights = counts.sum() / (labels * counts.clamp(min=1))
    return torch.where(counts > 0, weights, torch.ones(labels))


def _flat(target: int | float | list[int]) -> list[int]:
    return target if isinstance(target, list) else [int(target)]


def _numbers(examples: Sequence[Example], like: Tensor) -> Tensor:
    return torch.tensor([one.target for one in examples], dtype=torch.float32, device=like.device)
