"""R-Drop (Liang et al. 2021, arXiv:2106.14448): two passes of a text, of which dropout drops other parts, agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from llmos.training.examples import Example
from llmos.training.objectives.objective import Loss

Examples = Sequence[Example[Any]]  # Any: the target of the task's family


def read_twice(examples: Examples) -> list[Example[Any]]:
    """The examples with their text twice, as two sequences: `ConsistencyLoss` takes a row of logits for each."""
    return [replace(one, rendered=replace(one.rendered, parts=(one.ids, one.ids))) for one in examples]


class ConsistencyLoss:
    """The mean loss of both passes, and `weight` times half the divergence of one from the other, both ways.

    This is half of the paper's loss: a step is as long as one without it.
    """

    def __init__(self, loss: Loss, weight: float) -> None:
        self.loss, self.weight = loss, weight
        self.prefers_later = loss.prefers_later

    def normalizer(self, examples: Examples) -> float:
        return self.loss.normalizer(examples)

    def __call__(self, given: Tensor, examples: Examples) -> Tensor:
        one, other = given[0::2], given[1::2]
        mean = (self.loss(one, examples) + self.loss(other, examples)) / 2
        logs = one.log_softmax(-1), other.log_softmax(-1)
        apart = sum(
            functional.kl_div(first, second, reduction="sum", log_target=True) for first, second in (logs, logs[::-1])
        )
        return mean + self.weight * apart / 4
