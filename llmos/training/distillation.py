"""Distillation by soft targets: a student learns how likely the teacher finds each label (Hinton et al. 2015,
arXiv:1503.02531)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from llmos.abi.distillation import Distillation
from llmos.tasks import Rendered, Settings, TrainingTokenizer
from llmos.training.examples import Example
from llmos.training.objectives import objective_of, taught_family
from llmos.training.objectives.objective import IGNORED


@dataclass(frozen=True, slots=True, eq=False)
class SoftTarget:
    """The teacher's logits of each unit (a text, or a word), [units, labels], not a number where it saw none; and the
    units' places among the outputs of the example. `labels` are the hard target's; without any it is all teacher."""

    labels: list[int]
    places: tuple[int | None, ...]
    outputs: int
    logits: Tensor
    is_labelled: bool


def soft_examples(
    task: str, examples: Sequence[Example[Any]], logits: Sequence[Tensor]
) -> list[Example[SoftTarget]]:  # Any: hard targets of the task's family
    """The same labelled examples with the teacher's logits, [units, labels] each."""
    units_of = taught_family(task).units_of
    made = []
    for one, some in zip(examples, logits, strict=True):
        units = units_of(one.rendered)
        assert len(units.places) == len(some), "A teacher answers every unit of a row"
        target = SoftTarget(one.target.labels, units.places, units.outputs, some, is_labelled=True)
        made.append(Example(one.rendered, target))
    return made


def bare_examples(
    task: str, rows: Sequence[Any], logits: Sequence[Tensor], tokenizer: TrainingTokenizer, settings: Settings
) -> list[Example[SoftTarget]]:  # Any: rows of the task's family
    """Examples of rows without labels, which have the teacher's logits alone."""
    units_of = taught_family(task).units_of
    made = []
    for one, some in zip(render_bare(task, rows, tokenizer, settings), logits, strict=True):
        units = units_of(one)
        target = SoftTarget([IGNORED] * units.outputs, units.places, units.outputs, some, is_labelled=False)
        made.append(Example(one, target))
    return made


def render_bare(
    task: str, rows: Sequence[Any], tokenizer: TrainingTokenizer, settings: Settings
) -> list[Rendered]:  # Any: as above
    """The rows' inputs as tokens, cut where they are longer than the model takes."""
    cut = Settings(settings.labels, {**settings.options, "truncate": True}, settings.max_tokens)
    return objective_of(task).render(task, rows, tokenizer, cut)


class SoftLabelLoss:
    """Of each unit, the teacher's share of the divergence from its softened answer, and the rest of the cross-entropy
    of the label. The divergence is times the square of the temperature, which keeps the size of its gradients."""

    prefers_later = False

    def __init__(self, how: Distillation) -> None:
        self.how = how

    def normalizer(self, examples: Sequence[Example[SoftTarget]]) -> float:
        return float(sum(place is not None for one in examples for place in one.target.places))

    def __call__(self, given: Tensor, examples: Sequence[Example[SoftTarget]]) -> Tensor:
        taught, logits, labels, shares = _units(given, examples, self.how.weight)
        heat = self.how.temperature
        has_answer = ~logits.isnan().any(-1)
        shares = torch.where(has_answer, shares, 0.0)
        wanted = functional.softmax(torch.where(has_answer.unsqueeze(-1), logits, 0.0) / heat, -1)
        apart = functional.kl_div(functional.log_softmax(taught / heat, -1), wanted, reduction="none").sum(-1)
        hard = functional.cross_entropy(taught, labels, ignore_index=IGNORED, reduction="none")
        return (shares * heat**2 * apart + (1 - shares) * hard).sum()


class SoftManyLabelsLoss:
    """Binary cross-entropy of each label, against the mixture of the teacher's probability and the label."""

    prefers_later = False

    def __init__(self, how: Distillation, labels: int) -> None:
        self.how, self.labels = how, labels

    def normalizer(self, examples: Sequence[Example[SoftTarget]]) -> float:
        return float(len(examples) * self.labels)

    def __call__(self, given: Tensor, examples: Sequence[Example[SoftTarget]]) -> Tensor:
        wanted = torch.stack([self._mixture(one.target) for one in examples]).to(given.device)
        return functional.binary_cross_entropy_with_logits(given, wanted, reduction="sum")

    def _mixture(self, target: SoftTarget) -> Tensor:
        """The mixture for one text, [labels]."""
        theirs = (target.logits[0] / self.how.temperature).sigmoid()
        if not target.is_labelled:
            return theirs
        own = torch.zeros(self.labels)
        own[target.labels] = 1.0
        return self.how.weight * theirs + (1 - self.how.weight) * own


def _units(
    given: Tensor, examples: Sequence[Example[SoftTarget]], weight: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of every unit that was not cut off: the student's and the teacher's logits, both [units, labels], the label and
    the teacher's share, both [units]."""
    starts = accumulate((one.target.outputs for one in examples), initial=0)
    places: list[int] = []
    labels: list[int] = []
    shares: list[float] = []
    logits: list[Tensor] = []
    for start, one in zip(starts, examples, strict=False):
        target = one.target
        seen = [i for i, place in enumerate(target.places) if place is not None]
        own = [place for place in target.places if place is not None]
        places += [start + place for place in own]
        labels += [target.labels[place] for place in own]
        shares += [weight if target.labels[place] != IGNORED else 1.0 for place in own]
        logits.append(target.logits[seen])
    device = given.device
    taught = given[torch.tensor(places, dtype=torch.long, device=device)]
    theirs = torch.cat(logits).to(device) if logits else given.new_zeros((0, given.shape[-1]))
    return taught, theirs, torch.tensor(labels, device=device), torch.tensor(shares, device=device)
