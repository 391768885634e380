"""Log-probabilities of whole answers, in nats: sums over their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmos.nn.next_token import NextHead
from llmos.training.losses import supervised_tokens

if TYPE_CHECKING:
    from llmos.training.examples import Example
    from llmos.training.objectives.preferences import PreferenceTarget


def answer_log_probabilities(head: NextHead, given: Tensor, examples: Sequence[Example[PreferenceTarget]]) -> Tensor:
    """The log-probability of every answer of these examples in their order, [answers], with gradients.

    `given` are the hidden states of the examples' sequences, [tokens, hidden].
    """
    costs = head.token_losses(*supervised_tokens(given, examples))
    sizes = [size for one in examples for size in one.target.sizes]
    return -torch.stack([some.sum() for some in torch.split(costs, sizes)])


def answer_sizes(examples: Sequence[Example[PreferenceTarget]], like: Tensor) -> Tensor:
    """The number of tokens of every answer, [answers]."""
    sizes = [float(size) for one in examples for size in one.target.sizes]
    return torch.tensor(sizes, device=like.device)


def reference_of(examples: Sequence[Example[PreferenceTarget]], like: Tensor) -> Tensor:
    """The frozen base's log-probability of every answer, [answers]."""
    found = [value for one in examples for value in one.target.reference]
    assert len(found) == sum(len(one.target.sizes) for one in examples), "the reference is computed before training"
    return torch.tensor(found, device=like.device)
