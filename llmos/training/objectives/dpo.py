"""DPO: direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290), also with labels that may be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import logsigmoid

from llmos.abi.json_type import Json
from llmos.nn.next_token import NextHead
from llmos.training.log_probabilities import answer_log_probabilities, answer_sizes, reference_of

if TYPE_CHECKING:
    from llmos.training.examples import Example
    from llmos.training.objectives.preferences import PreferenceTarget


class DPOLoss:
    """-log sigmoid of beta times the margin: how much more the model prefers the better answer than the base does."""

    prefers_later = True  # of few validation pairs all are soon right, while margins still grow

    def __init__(self, head: NextHead, values: Mapping[str, Json]) -> None:
        self.head = head
        self.beta, self.smoothing, self.nll_weight = (float(values[k]) for k in ("beta", "smoothing", "nll_weight"))

    def normalizer(self, examples: Sequence[Example[PreferenceTarget]]) -> float:
        return float(len(examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[PreferenceTarget]]) -> Tensor:
        found = answer_log_probabilities(self.head, given, examples)
        rewards = found - reference_of(examples, found)
        losses = dpo_losses(rewards[0::2], rewards[1::2], self.beta, self.smoothing)
        if self.nll_weight:
            losses = losses - self.nll_weight * found[0::2] / answer_sizes(examples, found)[0::2]
        return losses.sum()


def dpo_losses(chosen: Tensor, rejected: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """The loss of each pair, [pairs], from log-ratios of model to reference of the two answers, [pairs] each."""
    margins = beta * (chosen - rejected)
    return -(1 - smoothing) * logsigmoid(margins) - smoothing * logsigmoid(-margins)


LOSS = DPOLoss
