"""Low-rank adapters in training, several of them in one packed row: each segment of the row learns its own.

A product with the frozen base is one for all segments; what an adapter adds to it are thin products of its segment,
forward and backward. Each adapter's weights are one tensor, so that its optimizer, its clipping and its workers see
one. Low-rank adapters: Hu et al. 2021 (arXiv:2106.09685); training several at once: Ye et al. 2023 (mLoRA,
arXiv:2312.02515).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmos.nn.adapters.adapter import Adapter, replace_forward
from llmos.nn.adapters.changes import PerToken, plain_output


@dataclass(frozen=True, eq=False)
class TrainedLowRank(PerToken):
    """The change of one layer by an adapter in training: `scale * (x @ down.T) @ up.T`.

    down [rank, in] and up [out, rank] are parts of `weights` [1, n], which holds those of all layers.
    """

    layer: nn.Module
    weights: nn.Parameter
    start: int
    rank: int
    inputs: int
    outputs: int
    scale: float

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.parts(self.weights)

    def parts(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's down and up in a tensor like `weights`."""
        middle = self.start + self.rank * self.inputs
        end = middle + self.outputs * self.rank
        down = flat[0, self.start : middle].view(self.rank, self.inputs)
        return down, flat[0, middle:end].view(self.outputs, self.rank)

    def compute(self, x: Tensor) -> Tensor:
        return _apply(self.layer, (TrainedPart(self, 0, x.numel() // x.shape[-1], self.weights.detach()),), x)

    def output(self, x: Tensor, out: Tensor) -> Tensor:
        down, up = (one.to(out.dtype) for one in self.tensors)
        return out + ((x.to(out.dtype) @ down.T) @ up.T) * self.scale


class TrainedPart(NamedTuple):
    """A layer's change, the tokens of a row that it applies to, [start, end), and its weights in the pass's dtype."""

    change: TrainedLowRank
    start: int
    end: int
    flat: Tensor


def adapter_of(
    weights: nn.Parameter, layers: Sequence[tuple[nn.Module, int, int]], rank: int, scale: float, *, is_mixable: bool
) -> Adapter:
    """The adapter that trains these weights, [1, n], on layers with so many inputs and outputs, in their order."""
    changes, start = [], 0
    for layer, inputs, outputs in layers:
        changes.append(TrainedLowRank(layer, weights, start, rank, inputs, outputs, scale))
        start += rank * (inputs + outputs)
    assert start == weights.numel(), "the weights are those of the layers"
    return Adapter(tuple(changes), is_mixable)


@contextmanager
def training_segments(segments: Sequence[tuple[Adapter, int, int]]) -> Iterator[None]:
    """Inside this block, a forward pass computes each segment of a row with its own adapter in training.

    The last tokens of the row may be in no segment.
    """
    parts: dict[nn.Module, list[TrainedPart]] = {}
    for adapter, start, end in segments:
        flats: dict[int, Tensor] = {}
        for change in adapter.layers:
            assert isinstance(change, TrainedLowRank), "it is in training"
            weights = change.weights
            if id(weights) not in flats:
                flats[id(weights)] = weights.detach().to(_dtype_of(weights))
            flat = flats[id(weights)]
            parts.setdefault(change.layer, []).append(TrainedPart(change, start, end, flat))
    with replace_forward({layer: partial(_apply, layer, tuple(some)) for layer, some in parts.items()}):
        yield


def _dtype_of(x: Tensor) -> torch.dtype:
    """What a product with x is computed in now."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _apply(layer: nn.Module, parts: tuple[TrainedPart, ...], x: Tensor) -> Tensor:
    """The layer's output for x [..., in], with what each part adds to its tokens."""
    rows = x.reshape(-1, x.shape[-1])
    rows = rows.to(_dtype_of(rows))
    is_plain = type(layer) is nn.Linear and not layer.weight.requires_grad
    base = None if is_plain else plain_output(layer, rows)
    weights = (part.change.weights for part in parts)
    out: Tensor = _WithLowRank.apply(rows, base, layer, parts, *weights)  # type: ignore[no-untyped-call]  # torch leaves it so
    return out.view(*x.shape[:-1], -1)


class _WithLowRank(torch.autograd.Function):
    """A frozen layer's output for rows [T, in] with its parts' changes, as one step of autograd.

    `base` is the layer's output; None: it is computed here, by the layer's weight. The adapters' weights are
    inputs only so that autograd knows of them: their gradients are summed into `grad` here.
    """

    @staticmethod
    def forward(
        ctx: Any,  # Any: autograd's context
        rows: Tensor,
        base: Tensor | None,
        layer: Any,  # Any: a linear layer where there is no base
        parts: tuple[TrainedPart, ...],
        *weights: Tensor,
    ) -> Tensor:
        dtype = rows.dtype if base is None else base.dtype
        seen, weight = rows.to(dtype), None
        kept: list[Tensor] = []
        with torch.autocast(rows.device.type, enabled=False):
            if base is None:
                weight = layer.weight.to(dtype)
                out = functional.linear(seen, weight, None if layer.bias is None else layer.bias.to(dtype))
            else:
                out = base.clone()
            for change, start, end, flat in parts:
                down, up = (one.to(dtype) for one in change.parts(flat))
                inner = seen[start:end] @ down.T
                out[start:end].addmm_(inner, up.T, alpha=change.scale)
                kept += down, up, inner
        ctx.save_for_backward(seen, weight, *kept)
        ctx.parts, ctx.dtype = parts, rows.dtype
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # Any: as above
        seen, weight, *kept = ctx.saved_tensors
        before: Tensor | None = None
        if ctx.needs_input_grad[0]:
            before = torch.zeros_like(seen) if weight is None else gradient @ weight
        for i, (change, start, end, _) in enumerate(ctx.parts):
            down, up, inner = kept[3 * i : 3 * i + 3]
            after = gradient[start:end]
            middle = (after @ up).mul_(change.scale)
            if change.weights.grad is None:
                change.weights.grad = torch.zeros_like(change.weights)
            of_down, of_up = change.parts(change.weights.grad)
            of_down.add_(middle.T @ seen[start:end])
            of_up.add_(after.T @ inner, alpha=change.scale)
            if before is not None:
                before[start:end].addmm_(middle, down)
        of_rows = None if before is None else before.to(ctx.dtype)
        return of_rows, gradient if weight is None else None, None, None, *(None for _ in ctx.parts)
