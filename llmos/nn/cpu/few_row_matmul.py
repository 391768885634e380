"""Matrix products of few rows (decode): which weight layout this CPU multiplies fastest.

`x @ W.T` and `(W @ x.T).T` are the same numbers. Libraries are optimized for many rows; for few, the large matrix on
the left can be twice as fast. The weights are not copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

MOST_ROWS = 512  # from here on both ways take the same time, and this one's output is not contiguous
TRIED_ROWS = 16
TRIES = 3


class TransposedWeights(nn.Linear):
    """A linear layer that multiplies few rows with its weights on the left."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.numel() // input.shape[-1]
        if not 1 < rows <= MOST_ROWS:
            return linear(input, self.weight, self.bias)
        # Copy the few rows, at most twice: non-contiguous rows make the product far slower.
        return transposed_matmul(input.reshape(rows, -1).contiguous(), self.weight, self.bias).view(
            *input.shape[:-1], -1
        )


def transposed_matmul(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.mm(weight, x.t()).t()
    return torch.addmm(bias.unsqueeze(1), weight, x.t()).t()


def turn(model: nn.Module) -> bool:
    """Switch the linear layers to that order if it is faster on this CPU; returns whether it is."""
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    if not layers or layers[0].weight.is_cuda or not _is_faster(max(layers, key=lambda layer: layer.weight.numel())):
        return False
    for layer in layers:
        layer.__class__ = TransposedWeights
    return True


@torch.inference_mode()
def _is_faster(layer: nn.Linear) -> bool:
    """Whether it is faster for a part of one layer.

    The fastest of several tries counts: other programs may run beside.
    """
    weight = layer.weight[:4096]
    x = torch.ones(TRIED_ROWS, weight.shape[1], dtype=weight.dtype)
    return _time(lambda: transposed_matmul(x, weight, None)) < _time(lambda: linear(x, weight))


def _time(run: Callable[[], Tensor]) -> float:
    run()
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
