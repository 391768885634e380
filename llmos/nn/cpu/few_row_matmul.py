"""Matrix products of few rows (decode): which weight layout this CPU multiplies fastest.

`x @ W.T` and `(W @ x.T).T` are the same numbers. Libraries are optimized for many rows; for few, the large matrix on
the left can be twice as fast. The weights are not copied. In bfloat16 the two differ in their last bits, so a process
decides once for all layers of one shape: a model that is loaded again answers as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

MOST_ROWS = 512  # from here on both ways take the same time, and this one's output is not contiguous
LEAST_WEIGHTS = 2**18  # of the largest layer: with fewer a product takes so little time that a clock tells nothing
TRIED_ROWS = 16
TRIES = 3
LESS = 0.9  # of the other's time: a smaller gain is chance


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
    """Switch the linear layers to that order if it is faster on this CPU; returns whether it is.

    Layers of a model without a large one stay as they are.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    if not layers or layers[0].weight.is_cuda:
        return False
    outs, ins, dtype = _largest(layers)
    if outs * ins < LEAST_WEIGHTS or not _is_faster(outs, ins, dtype):
        return False
    for layer in layers:
        layer.__class__ = TransposedWeights
    return True


def _largest(layers: Sequence[nn.Linear]) -> tuple[int, int, torch.dtype]:
    """The shape of the largest layer, at most 4096 of its outputs, and its dtype."""
    weight = max(layers, key=lambda layer: layer.weight.numel()).weight
    return min(4096, weight.shape[0]), weight.shape[1], weight.dtype


@cache
@torch.inference_mode()
def _is_faster(outs: int, ins: int, dtype: torch.dtype) -> bool:
    """Whether it is faster for a layer of this shape.

    The fastest of several tries counts: other programs may run beside.
    """
    weight, x = torch.ones(outs, ins, dtype=dtype), torch.ones(TRIED_ROWS, ins, dtype=dtype)
    return _time(lambda: transposed_matmul(x, weight, None)) < LESS * _time(lambda: linear(x, weight))


def _time(run: Callable[[], Tensor]) -> float:
    run()
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
