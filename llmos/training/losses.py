"""Losses: each is summed over a step's micro-batches (gradient accumulation) and divided once by the step's weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from llmos.nn.next_token import NextHead
from llmos.tasks.answer import NOWHERE
from llmos.training.objectives.objective import IGNORED

if TYPE_CHECKING:
    from llmos.training.examples import Example
    from llmos.training.objectives.labels import LabelTarget
    from llmos.training.objectives.pairs import PairTarget
    from llmos.training.objectives.preferences import PreferenceTarget
    from llmos.training.objectives.spans import SpanTarget
    from llmos.training.objectives.tags import TagTarget
    from llmos.training.objectives.text import TextTarget

    Labelled = Sequence[Example[LabelTarget]] | Sequence[Example[TagTarget]]


class LabelLoss:
    """Cross-entropy over labels, of texts or of words."""

    prefers_later = False

    def __init__(self, smoothing: float, weights: Tensor | None) -> None:
        self.smoothing, self.weights = smoothing, weights

    def normalizer(self, examples: Labelled) -> float:
        targets = torch.tensor([t for t in _labels(examples) if t != IGNORED], dtype=torch.long)
        return float(len(targets) if self.weights is None else self.weights.cpu()[targets].sum())

    def __call__(self, given: Tensor, examples: Labelled) -> Tensor:
        targets = torch.tensor(list(_labels(examples)), device=given.device)
        return functional.cross_entropy(
            given, targets, self.weights, ignore_index=IGNORED, reduction="sum", label_smoothing=self.smoothing
        )


class MultiLabelLoss:
    """Binary cross-entropy of each label, for texts with any number of labels."""

    prefers_later = False

    def __init__(self, smoothing: float, labels: int) -> None:
        self.smoothing, self.labels = smoothing, labels

    def normalizer(self, examples: Sequence[Example[LabelTarget]]) -> float:
        return float(len(examples) * self.labels)

    def __call__(self, given: Tensor, examples: Sequence[Example[LabelTarget]]) -> Tensor:
        wanted = torch.zeros(len(examples), self.labels)
        for i, one in enumerate(examples):
            wanted[i, one.target.labels] = 1.0
        wanted = wanted * (1 - self.smoothing) + self.smoothing / 2
        return functional.binary_cross_entropy_with_logits(given, wanted.to(given.device), reduction="sum")


class GradeLoss:
    """Binary cross-entropy of a pair's logit against its grade, scaled to 0 to 1."""

    prefers_later = True  # with few queries the ranking metric is soon perfect, while scores still improve

    def normalizer(self, examples: Sequence[Example[PairTarget]]) -> float:
        return float(len(examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[PairTarget]]) -> Tensor:
        return functional.binary_cross_entropy_with_logits(given[:, 0], _scores(examples, given), reduction="sum")


class CosineLoss:
    """The squared distance of two vectors' cosine to the pair's score (Reimers and Gurevych 2019, arXiv:1908.10084).

    Unlike losses that compare the pairs of a batch with each other, it adds up over micro-batches.
    """

    prefers_later = False

    def normalizer(self, examples: Sequence[Example[PairTarget]]) -> float:
        return float(len(examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[PairTarget]]) -> Tensor:
        cosines = (given[0::2] * given[1::2]).sum(-1)
        return functional.mse_loss(cosines, _scores(examples, given), reduction="sum")


class SpanLoss:
    """Cross-entropy of an answer's start and end over each window's passage tokens and the position for no answer."""

    prefers_later = False

    def normalizer(self, examples: Sequence[Example[SpanTarget]]) -> float:
        return float(sum(len(one.sequences) for one in examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[SpanTarget]]) -> Tensor:
        windows = [window for one in examples for window in one.rendered.context.windows]
        targets = [places for one in examples for places in one.target.places]
        total = given.new_zeros(())
        for i, logits in enumerate(torch.split(given, [len(ids) for one in examples for ids in one.sequences])):
            first = windows[i].first
            open_to = torch.cat((logits[:1], logits[first : first + len(windows[i].offsets)]))
            wanted = [at - first + 1 if at else NOWHERE for at in targets[i]]
            total = total + functional.cross_entropy(
                open_to.T, torch.tensor(wanted, device=given.device), reduction="sum"
            )
        return total / 2


class NextTokenLoss:
    """Cross-entropy of each token of the answer; tokens of the prompt do not count."""

    prefers_later = False

    def __init__(self, head: NextHead) -> None:
        self.head = head

    def normalizer(self, examples: Sequence[Example[TextTarget]]) -> float:
        return float(sum(len(one.target.tokens) for one in examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[TextTarget]]) -> Tensor:
        return self.head.sum_losses(*supervised_tokens(given, examples))


def supervised_tokens(
    given: Tensor, examples: Sequence[Example[TextTarget]] | Sequence[Example[PreferenceTarget]]
) -> tuple[Tensor, Tensor]:
    """The hidden states before each token of the answers, and these tokens."""
    lessons = [lesson for one in examples for lesson in one.rendered.context]
    starts = accumulate((len(lesson.ids) for lesson in lessons), initial=0)
    places = [start + at for start, lesson in zip(starts, lessons, strict=False) for at in lesson.places]
    targets = [target for lesson in lessons for target in lesson.targets]
    return given[torch.tensor(places, device=given.device)], torch.tensor(targets, device=given.device)


def balance_labels(examples: Labelled, labels: int) -> Tensor:
    """Weights that give every label the same total; their mean over the examples is 1. An unseen label weighs 1."""
    counts = torch.zeros(labels)
    for target in _labels(examples):
        if target != IGNORED:
            counts[target] += 1
    weights = counts.sum() / (labels * counts.clamp(min=1))
    return torch.where(counts > 0, weights, torch.ones(labels))


def _labels(examples: Labelled) -> Iterable[int]:
    return (target for one in examples for target in one.target.labels)


def _scores(examples: Sequence[Example[PairTarget]], like: Tensor) -> Tensor:
    return torch.tensor([one.target.score for one in examples], dtype=torch.float32, device=like.device)
