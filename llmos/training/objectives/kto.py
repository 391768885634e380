"""KTO: Kahneman-Tversky optimization, from single answers that are good or bad (Ethayarajh et al. 2024,
arXiv:2402.01306)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmos.abi.json_type import Json
from llmos.nn.next_token import NextHead
from llmos.training.log_probabilities import answer_log_probabilities, reference_of

if TYPE_CHECKING:
    from llmos.training.examples import Example
    from llmos.training.objectives.preferences import PreferenceTarget


class KTOLoss:
    """One minus the value of each answer: sigmoid of beta times its log-ratio over, or under, the reference point.

    The reference point estimates the divergence from the base, on answers to other prompts. It is the mean over a
    micro-batch, as in the paper, without gradients, and at least zero.
    """

    prefers_later = True  # as with DPO

    def __init__(self, head: NextHead, values: Mapping[str, Json]) -> None:
        self.head, self.beta = head, float(values["beta"])
        self.weights = float(values["undesirable_weight"]), float(values["desirable_weight"])

    def normalizer(self, examples: Sequence[Example[PreferenceTarget]]) -> float:
        return float(sum(one.target.own for one in examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[PreferenceTarget]]) -> Tensor:
        found = answer_log_probabilities(self.head, given, examples)
        ratios = found - reference_of(examples, found)
        places = [(i, one.target.own) for one in examples for i in range(len(one.target.sizes))]
        is_own = torch.tensor([i < own for i, own in places], device=ratios.device)
        is_good = torch.tensor([good for one in examples for good in one.target.is_good], device=ratios.device)
        others = ratios[~is_own].detach()
        point = others.mean().clamp(min=0) if len(others) else others.new_zeros(())
        return kto_losses(ratios[is_own], is_good, point, self.beta, self.weights).sum()


def kto_losses(ratios: Tensor, is_good: Tensor, point: Tensor, beta: float, weights: tuple[float, float]) -> Tensor:
    """The loss of each answer, [answers], from its log-ratio of model to reference; `weights` are of bad and good."""
    bad, good = weights
    sign = torch.where(is_good, 1.0, -1.0)
    return torch.where(is_good, good, bad) * (1 - torch.sigmoid(beta * sign * (ratios - point)))


LOSS = KTOLoss
