"""LoRA adapters in memory, and multi-LoRA batching: one packed row computed with several adapters.

An adapter adds `(x @ A) @ B` to a layer's output (LoRA, Hu et al. 2021, arXiv:2106.09685). For a segment of many tokens
a merged weight `W + A @ B` is faster; it is computed for that pass and then discarded. The base's own weights never
change.
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

FOLD_FROM = 1.25  # Merge from this many times in * out / (in + out) tokens on; measured, see docs/log.md.


class Change(NamedTuple):
    """What an adapter adds to one layer's output: `scale * (x @ down) @ up`; down is [in, rank], up [rank, out]."""

    layer: nn.Module
    down: Tensor
    up: Tensor
    scale: float

    def folds(self, tokens: int) -> bool:
        """Whether merged weights are cheaper than two low-rank products for this many tokens.

        Only in float32: in fewer bits, rounding the merged weight could erase the change.
        """
        if type(self.layer) is not nn.Linear or self.layer.weight.dtype != torch.float32:
            return False
        wide, high = self.layer.weight.shape
        return tokens * (wide + high) > FOLD_FROM * wide * high

    def fold(self) -> Tensor:
        """The layer's weights merged with the change, in the layer's own layout."""
        assert isinstance(self.layer.weight, Tensor)
        return torch.addmm(self.layer.weight, self.up.T, self.down.T, alpha=self.scale)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in memory. A mixable adapter changes only layers that see every token of a row once, and in order."""

    layers: tuple[Change, ...]
    is_mixable: bool = True

    @property
    def size_bytes(self) -> int:
        return sum(one.down.nbytes + one.up.nbytes for one in self.layers)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Inside this block, every pass of the base on this thread uses this adapter."""
        with _replace_forward({one.layer: partial(_apply_change, one) for one in self.layers}):
            yield


class Segment(NamedTuple):
    """A range of a row, [start, end) in tokens, and its adapter; None means the base alone."""

    adapter: Adapter | None
    start: int
    end: int


@contextmanager
def applying_segments(segments: Sequence[Segment]) -> Iterator[None]:
    """Inside this block, one forward pass computes each segment of a row with its own adapter.

    The segments cover the row.
    """
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
    """A layer's change and the range of the row that it applies to."""

    change: Change
    start: int
    end: int


class _Now(threading.local):
    """The layer functions that replace the base's in this thread's pass. Each thread may compute a row of its own."""

    forwards: Mapping[nn.Module, partial[Tensor]] = {}  # replaced as a whole, never mutated


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
    """Whether an adapter is active in this thread's pass."""
    return bool(_now.forwards)


def _forward_changed(layer: nn.Module, x: Tensor) -> Tensor:
    """The forward of a layer that an adapter has changed once.

    It looks up this thread's adapter; without one it is plain.
    """
    forward = _now.forwards.get(layer)
    if forward is not None:
        return forward(x)
    plain: Tensor = type(layer).forward(layer, x)
    return plain


def _apply_change(change: Change, x: Tensor) -> Tensor:
    """The layer's output with the change applied to all of x."""
    layer, down, up, scale = change
    if change.folds(x.numel() // x.shape[-1]) and not torch.is_autocast_enabled(x.device.type):
        return functional.linear(x, change.fold(), layer.bias)  # type: ignore[arg-type]  # it is a Linear's
    plain: Tensor = type(layer).forward(layer, x)
    return torch.add(plain, (x @ down) @ up, alpha=scale)


def _apply_parts(layer: nn.Module, parts: Sequence[AdapterSlice], size: int, x: Tensor) -> Tensor:
    """The layer's output for the row x, with each slice's own change."""
    rows = x.reshape(-1, x.shape[-1])
    assert len(rows) == size, f"{type(layer).__name__} sees {len(rows)} of the {size} tokens of a row: not mixable"
    out = _with_folds(layer, parts, rows)
    for change, start, end in parts:
        if not change.folds(end - start):
            out[start:end].addmm_(rows[start:end] @ change.down, change.up, alpha=change.scale)
    return out.view(*x.shape[:-1], -1)


def _with_folds(layer: nn.Module, parts: Sequence[AdapterSlice], rows: Tensor) -> Tensor:
    """Compute the slices that use merged weights; all other tokens use the layer's weights."""
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
