"""Matrix products of few rows (decode): which weight layout this CPU multiplies fastest.

`x @ W.T` and `(W @ x.T).T` are the same numbers. Libraries are made for many rows; with few, having the large matrix
on the left can be twice as fast, and nothing is copied for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

MOST_ROWS = 512  # above it both ways take the same time, and this one's answer is laid out worse for what comes next
TRIED_ROWS = 16
TRIES = 3


class TransposedWeights(nn.Linear):
    """A linear layer that computes few rows with its weights on the left."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.numel() // input.shape[-1]
        if not 1 < rows <= MOST_ROWS:
            return linear(input, self.weight, self.bias)
        # Two copies of few rows at most: a row whose numbers lie apart makes the product far slower.
        return transposed_matmul(input.reshape(rows, -1).contiguous(), self.weight, self.bias).view(
            *input.shape[:-1], -1
        )


def transposed_matmul(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.mm(weight, x.t()).t()
    return torch.addmm(bias.unsqueeze(1), weight, x.t()).t()


def turn(model: nn.Module) -> bool:
    """Make the linear layers compute that way if it is the faster one here; returns whether it is."""
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    if not layers or layers[0].weight.is_cuda or not _is_faster(max(layers, key=lambda layer: layer.weight.numel())):
        return False
    for layer in layers:
        layer.__class__ = TransposedWeights
    return True


@torch.inference_mode()
def _is_faster(layer: nn.Linear) -> bool:
    """Tried on a part of one layer, and by the fastest of some tries, for other programs may run beside."""
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
