"""LoRA adapters in memory, and a packed row computed with several adapters at once (multi-LoRA batching).

What an adapter adds to a layer is `(x @ A) @ B` (LoRA, Hu et al. 2021, arXiv:2106.09685). A long stretch gets the same
from weights made on the way, `W + A @ B`, and forgotten after it. The base's own weights are never changed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

FOLD_FROM = 1.25  # times in * out / (in + out) tokens: from there on folding costs less; measured, see docs/log.md


class Change(NamedTuple):
    """What an adapter adds to one layer's output: `scale * (x @ down) @ up`; down is [in, rank], up [rank, out]."""

    layer: nn.Module
    down: Tensor
    up: Tensor
    scale: float

    def folds(self, tokens: int) -> bool:
        """Whether so many tokens are cheaper with weights of their own than with two thin products.

        In float32 alone: rounded once more to fewer bits, the change could drown in the rounding of the weights.
        """
        if type(self.layer) is not nn.Linear or self.layer.weight.dtype != torch.float32:
            return False
        wide, high = self.layer.weight.shape
        return tokens * (wide + high) > FOLD_FROM * wide * high

    def fold(self) -> Tensor:
        """The layer's weights with the change in them, [out, in] as it has them."""
        assert isinstance(self.layer.weight, Tensor)
        return torch.addmm(self.layer.weight, self.up.T, self.down.T, alpha=self.scale)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in memory. A mixable one changes only layers that see every token of a row once, and in order."""

    layers: tuple[Change, ...]
    is_mixable: bool = True

    @property
    def size_bytes(self) -> int:
        return sum(one.down.nbytes + one.up.nbytes for one in self.layers)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within, the base computes with this adapter, whatever it computes."""
        with _replace_forward({one.layer: partial(_apply_change, one) for one in self.layers}):
            yield


class Segment(NamedTuple):
    """A stretch of a row, from one token to before another, and its adapter; none: the base as it is."""

    adapter: Adapter | None
    start: int
    end: int


@contextmanager
def applying_segments(segments: Sequence[Segment]) -> Iterator[None]:
    """Within, one forward pass over a row computes each segment with its own adapter; together they cover the row."""
    if len(segments) == 1 and (only := segments[0].adapter) is not None:
        with only.on():
            yield
        return
    parts: dict[nn.Module, list[AdapterSlice]] = {}
    for adapter, start, end in segments:
        for change in adapter.layers if adapter is not None else ():
            parts.setdefault(change.layer, []).append(AdapterSlice(change, start, end))
    size = segments[-1].end if segments else 0
    with _replace_forward({layer: partial(_apply_parts, layer, tuple(some), size) for layer, some in parts.items()}):
        yield


class AdapterSlice(NamedTuple):
    """A change, and the stretch of the row that it is for."""

    change: Change
    start: int
    end: int


class _Now(threading.local):
    """What the pass of this thread computes with, layer by layer: each core may compute a row of its own."""

    forwards: Mapping[nn.Module, partial[Tensor]] = {}  # never changed, only replaced


_now = _Now()


@contextmanager
def _replace_forward(forwards: Mapping[nn.Module, partial[Tensor]]) -> Iterator[None]:
    before = _now.forwards
    try:
        for layer in forwards:
            layer.forward = partial(_forward_changed, layer)
        _now.forwards = forwards
        yield
    finally:
        _now.forwards = before


def is_any_on() -> bool:
    """Whether this thread's pass computes with an adapter."""
    return bool(_now.forwards)


def _forward_changed(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer that some adapter changes, in a pass that may or may not have it; once put in place it stays there."""
    forward = _now.forwards.get(layer)
    if forward is not None:
        return forward(x)
    plain: Tensor = type(layer).forward(layer, x)
    return plain


def _apply_change(change: Change, x: Tensor) -> Tensor:
    """The layer's output with the change, for all of x."""
    layer, down, up, scale = change
    if change.folds(x.numel() // x.shape[-1]) and not torch.is_autocast_enabled(x.device.type):
        return functional.linear(x, change.fold(), layer.bias)  # type: ignore[arg-type]  # it is a Linear's
    plain: Tensor = type(layer).forward(layer, x)
    return torch.add(plain, (x @ down) @ up, alpha=scale)


def _apply_parts(layer: nn.Module, parts: Sequence[AdapterSlice], size: int, x: Tensor) -> Tensor:
    """The layer's output for the row x, each part of it with its own change."""
    rows = x.reshape(-1, x.shape[-1])
    assert len(rows) == size, f"{type(layer).__name__} sees {len(rows)} of the {size} tokens of a row: not mixable"
    out = _with_folds(layer, parts, rows)
    for change, start, end in parts:
        if not change.folds(end - start):
            out[start:end].addmm_(rows[start:end] @ change.down, change.up, alpha=change.scale)
    return out.view(*x.shape[:-1], -1)


def _with_folds(layer: nn.Module, parts: Sequence[AdapterSlice], rows: Tensor) -> Tensor:
    """The parts that fold with their own weights, the stretches between them with the layer's."""
    folds = [part for part in parts if part.change.folds(part.end - part.start)]
    if not folds:
        plain: Tensor = type(layer).forward(layer, rows)
        return plain
    assert isinstance(layer, nn.Linear)
    out = rows.new_empty(len(rows), layer.out_features)
    done = 0
    for change, start, end in folds:
        _linear(rows[done:start], layer.weight.T, layer.bias, out[done:start])
        _linear(rows[start:end], change.fold().T, layer.bias, out[start:end])
        done = end
    _linear(rows[done:], layer.weight.T, layer.bias, out[done:])
    return out


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    if not len(rows):
        return
    if bias is None:
        torch.mm(rows, weight, out=out)
    else:
        torch.addmm(bias, rows, weight, out=out)
