"""Consistency of views: what a model is sure of about a text without a label, it must also say of a changed copy.

UDA (Xie et al. 2020, arXiv:1904.12848) and FixMatch (Sohn et al. 2020, arXiv:2001.07685). The answer about the text
itself is computed without dropout and without gradients, and sharpened. Each label has a threshold of its own: the mean
confidence of the answers with this label in the last steps.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from llmos.abi.recipe import Recipe
from llmos.tasks import Rendered
from llmos.training.candidate import Candidate
from llmos.training.checkpoint import Checkpoints
from llmos.training.examples import Example
from llmos.training.gradient_workers import GradientWorkers
from llmos.training.objectives import taught_family
from llmos.training.objectives.objective import Loss
from llmos.training.trainer import Hooks, Trainer

SHARPENED = 0.4  # temperature of the answer that is learned, as UDA has it for texts
MOST = 0.95  # that a threshold asks for, FixMatch's
KEPT = 0.98  # of what was seen before, in each step
STATE = "~views/seen"  # in a checkpoint

Examples = Sequence[Example[Any]]  # Any: the target of the task's family


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """The units (a text, or its words) that the copy left as they were: their places among the outputs for the text
    and for the copy; and the number of outputs for each."""

    places: tuple[tuple[int, int], ...]
    outputs: tuple[int, int]


def view_example(task: str, text: Rendered, copy: Rendered, unchanged: Sequence[bool]) -> Example[CopyTarget]:
    """A text with its changed copy, as two sequences; `unchanged` says which units mean the same in both."""
    units_of = taught_family(task).units_of
    mine, other = units_of(text), units_of(copy)
    places = tuple(
        (one, two)
        for one, two, is_same in zip(mine.places, other.places, unchanged, strict=True)
        if is_same and one is not None and two is not None
    )
    return Example(Rendered(text.ids, parts=(text.ids, copy.ids)), CopyTarget(places, (mine.outputs, other.outputs)))


class Thresholds:
    """How sure an answer must be, by its label. Before a label was ever seen, it must be as sure as MOST."""

    def __init__(self, labels: int) -> None:
        self.seen = torch.zeros(2, labels, dtype=torch.float64)  # confidences of answers with a label; their number

    def least(self) -> list[float]:
        sums, counts = self.seen
        return torch.where(counts > 0, sums / counts.clamp_min(1e-9), MOST).clamp_max(MOST).tolist()

    def learn(self, seen: Sequence[float]) -> None:
        """Count the answers of a step: the sums of both rows, one after the other."""
        self.seen = KEPT * self.seen + torch.tensor(seen, dtype=torch.float64).view_as(self.seen)


def agreement(text: Tensor, copy: Tensor, least: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The cross-entropy of the logits of copies [units, labels] with the sharpened answers about their texts, summed
    over answers that are sure; and the confidences of all answers by their label, and their number, [2, labels]."""
    confidence, labels = text.softmax(-1).max(-1)
    is_sure = confidence >= least.to(text)[labels]
    entropy = -((text / SHARPENED).softmax(-1) * copy.log_softmax(-1)).sum(-1)
    seen = torch.zeros(2, text.shape[-1], dtype=torch.float64)
    both = torch.stack([confidence, torch.ones_like(confidence)]).double().cpu()
    return (entropy * weights * is_sure).sum(), seen.index_add_(1, labels.cpu(), both)


class ViewTrainer(Trainer):
    """A training run each of whose steps adds texts without labels, `recipe.views` for each example of a batch."""

    def __init__(
        self,
        candidate: Candidate,
        loss: Loss,
        examples: Examples,
        recipe: Recipe,
        checkpoints: Checkpoints,
        around: Hooks,
        digest: str,
        *,
        views: Sequence[Example[CopyTarget]],
        labels: int,
    ) -> None:
        super().__init__(candidate, loss, examples, recipe, checkpoints, around, digest, beside=views)
        self.states = None  # dropout changes what a frozen base says of a copy
        self.added = max(1, min(len(views), round(recipe.views * self.size)))  # in a step
        self.thresholds = Thresholds(labels)
        self._least = torch.zeros(labels)
        self._seen = torch.zeros(2, labels, dtype=torch.float64)
        self._pass: tuple[int, list[int]] = (-1, [])  # over all views, and their order in it

    def next_batch(self) -> list[int]:
        """The examples of the next step, and then the views. Their order follows from the seed and the step."""
        first = self.position.step * self.added
        return [*super().next_batch(), *(self._view(place) for place in range(first, first + self.added))]

    def _view(self, place: int) -> int:
        count = len(self.examples) - self.counted
        number, at = divmod(place, count)
        if self._pass[0] != number:
            order = list(range(self.counted, len(self.examples)))
            random.Random(f"{self.recipe.seed} views {number}").shuffle(order)
            self._pass = number, order
        return self._pass[1][at]

    def normalizer(self, batch: Sequence[int]) -> float:
        return super().normalizer([i for i in batch if i < self.counted])

    def step(self, crew: GradientWorkers, batch: Sequence[int]) -> None:
        asked = [self.normalizer(batch), *self.thresholds.least()]
        total, *seen = crew.gradients(self.position.step, batch, self.lengths, asked)
        self.apply(total, crew.parts)
        self.thresholds.learn(seen)

    def _gradients(self, batch: Sequence[int], normalizers: Sequence[float]) -> list[float]:
        normalizer, *least = normalizers
        self._least = torch.tensor(least)
        self._seen.zero_()
        return [*super()._gradients(batch, [normalizer]), *self._seen.flatten().tolist()]

    def _loss(self, part: Sequence[int], normalizer: float) -> Tensor:
        """As a trainer's, and what copies and texts disagree about, as a mean over the views of a step."""
        taught = [self.examples[i] for i in part if i < self.counted]
        views = [self.examples[i] for i in part if i >= self.counted]
        if not views:
            return super()._loss(part, normalizer)
        texts = self._answers(views)
        sequences = [*(ids for one in taught for ids in one.sequences), *(one.sequences[1] for one in views)]
        logits = self.candidate.logits(sequences)
        start = len(logits) - sum(one.target.outputs[1] for one in views)
        apart = self._apart(views, texts, logits[start:]) / self.added
        return apart + self.loss(logits[:start], taught) / normalizer if taught else apart

    def _answers(self, views: Sequence[Example[CopyTarget]]) -> Tensor:
        """The logits of the texts themselves."""
        self.candidate.train(False)
        try:
            with torch.no_grad():
                return self.candidate.logits([one.sequences[0] for one in views])
        finally:
            self.candidate.train()

    def _apart(self, views: Sequence[Example[CopyTarget]], texts: Tensor, copies: Tensor) -> Tensor:
        """The summed loss of these views: of each one a mean over its units."""
        starts = [[0, *accumulate(one.target.outputs[side] for one in views)] for side in (0, 1)]
        places = [
            (first + one, second + two, 1 / len(view.target.places))
            for view, first, second in zip(views, *starts, strict=False)
            for one, two in view.target.places
        ]
        if not places:
            return copies.sum() * 0
        mine, other, weights = zip(*places, strict=True)
        at = torch.tensor([mine, other], device=copies.device)
        apart, seen = agreement(texts[at[0]], copies[at[1]], self._least, torch.tensor(weights, device=copies.device))
        self._seen += seen
        return apart

    def own_state(self) -> dict[str, Tensor]:
        return {**super().own_state(), STATE: self.thresholds.seen}

    def load_own_state(self, own: dict[str, Tensor]) -> None:
        self.thresholds.seen = own.pop(STATE)
        super().load_own_state(own)
