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
        return _apply(self.layer, (Part(self, 0, x.numel() // x.shape[-1]),), x)

    def output(self, x: Tensor, out: Tensor) -> Tensor:
        down, up = (one.to(out.dtype) for one in self.tensors)
        return out + ((x.to(out.dtype) @ down.T) @ up.T) * self.scale


class Part(NamedTuple):
    """A layer's change and the tokens of a row that it applies to, [start, end)."""

    change: TrainedLowRank
    start: int
    end: int


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
    parts: dict[nn.Module, list[Part]] = {}
    for adapter, start, end in segments:
        for change in adapter.layers:
            assert isinstance(change, TrainedLowRank), "it is in training"
            parts.setdefault(change.layer, []).append(Part(change, start, end))
    with replace_forward({layer: partial(_apply, layer, tuple(some)) for layer, some in parts.items()}):
        yield


def _apply(layer: nn.Module, parts: tuple[Part, ...], x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    if torch.is_autocast_enabled(x.device.type):
        rows = rows.to(torch.get_autocast_dtype(x.device.type))  # once, for the base's product and the adapters'
    return add_low_rank(rows, plain_output(layer, rows), parts).view(*x.shape[:-1], -1)


def add_low_rank(rows: Tensor, out: Tensor, parts: tuple[Part, ...]) -> Tensor:
    """The base's output `out` [T, out] for `rows` [T, in], with what each part adds to its tokens, in place.

    `out` must not be a view: autograd would take its whole for what has changed.
    """
    weights = (part.change.weights for part in parts)
    added: Tensor = _AddLowRank.apply(rows, out, parts, *weights)  # type: ignore[no-untyped-call]  # torch leaves it so
    return added


class _AddLowRank(torch.autograd.Function):
    """The weights are inputs only so that autograd knows of them; their gradients are summed into `grad` here."""

    @staticmethod
    def forward(
        ctx: Any,  # Any: autograd's context
        rows: Tensor,
        out: Tensor,
        parts: tuple[Part, ...],
        *weights: Tensor,
    ) -> Tensor:
        seen = rows.to(out.dtype)
        kept: list[Tensor] = []
        with torch.autocast(out.device.type, enabled=False):
            for change, start, end in parts:
                down, up = (x.to(out.dtype) for x in change.tensors)
                inner = seen[start:end] @ down.T
                out[start:end].addmm_(inner, up.T, alpha=change.scale)
                kept += down, up, inner
        ctx.mark_dirty(out)
        ctx.save_for_backward(seen, *kept)
        ctx.parts, ctx.dtype = parts, rows.dtype
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # Any: as above
        seen, *kept = ctx.saved_tensors
        before = torch.zeros_like(seen) if ctx.needs_input_grad[0] else None
        for i, (change, start, end) in enumerate(ctx.parts):
            down, up, inner = kept[3 * i : 3 * i + 3]
            after = gradient[start:end]
            middle = (after @ up).mul_(change.scale)
            if change.weights.grad is None:
                change.weights.grad = torch.zeros_like(change.weights)
            of_down, of_up = change.parts(change.weights.grad)
            of_down.add_(middle.T @ seen[start:end])
            of_up.add_(after.T @ inner, alpha=change.scale)
            if before is not None:
                torch.mm(middle, down, out=before[start:end])
        none = (None,) * (1 + len(ctx.parts))
        return (None if before is None else before.to(ctx.dtype), gradient, *none)
