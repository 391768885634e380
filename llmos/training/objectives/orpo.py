"""ORPO: odds ratio preference optimization (Hong et al. 2024, arXiv:2403.07691)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from llmos.abi.json_type import Json
from llmos.nn.next_token import NextHead
from llmos.training.log_probabilities import answer_log_probabilities, answer_sizes

if TYPE_CHECKING:
    from llmos.training.examples import Example
    from llmos.training.objectives.preferences import PreferenceTarget

LEAST = 1e-7  # below zero: a mean log-probability of zero has no odds


class ORPOLoss:
    """The better answer's negative log-likelihood per token, plus beta times -log sigmoid of the log odds ratio."""

    prefers_later = True  # as with DPO

    def __init__(self, head: NextHead, values: Mapping[str, Json]) -> None:
        self.head, self.beta = head, float(values["beta"])

    def normalizer(self, examples: Sequence[Example[PreferenceTarget]]) -> float:
        return float(len(examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[PreferenceTarget]]) -> Tensor:
        found = answer_log_probabilities(self.head, given, examples)
        means = found / answer_sizes(examples, found)
        chosen, rejected = means[0::2], means[1::2]
        return (self.beta * odds_ratio_losses(chosen, rejected) - chosen).sum()


def odds_ratio_losses(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log sigmoid of the log odds ratio of each pair, [pairs], from mean log-probabilities per token, [pairs] each."""
    return -logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def _log_odds(means: Tensor) -> Tensor:
    means = means.clamp(max=-LEAST)
    return means - torch.log1p(-torch.exp(means))


LOSS = ORPOLoss
