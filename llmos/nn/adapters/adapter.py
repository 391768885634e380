"""Adapters in memory, and mixed batches: one packed row computed with several adapters.

An adapter is a change of some layers (changes.py). For a segment of many tokens a merged weight is faster; it is
computed for that pass and then discarded. The base's own weights never change.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from llmos.nn.adapters.changes import Change, bytes_of, linear_into, plain_output
from llmos.nn.adapters.virtual import (
    PrefixRows,
    VirtualSegment,
    VirtualTokens,
    embed,
    prefixes_of,
    real_tokens,
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in memory. A mixable adapter changes only layers that see every token of a row once, and in order."""

    layers: tuple[Change, ...]
    is_mixable: bool = True
    virtual: VirtualTokens | None = None

    @property
    def size_bytes(self) -> int:
        return bytes_of(self.layers) + (0 if self.virtual is None else self.virtual.values().nbytes)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Inside this block, every pass of the base on this thread uses this adapter."""
        forwards = {one.layer: partial(_apply_change, one) for one in self.layers}
        with replace_forward(forwards, () if self.virtual is None else (VirtualSegment(self.virtual),)):
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
    virtual = tuple(
        VirtualSegment(adapter.virtual, start, end)
        for adapter, start, end in segments
        if adapter is not None and adapter.virtual is not None
    )
    size = segments[-1].end if segments else 0
    forwards = {layer: partial(_apply_parts, layer, tuple(some), size) for layer, some in parts.items()}
    with replace_forward(forwards, virtual):
        yield


class AdapterSlice(NamedTuple):
    """A layer's change and the range of the row that it applies to."""

    change: Change
    start: int
    end: int


class _Now(threading.local):
    """The layer functions that replace the base's in this thread's pass. Each thread may compute a row of its own."""

    forwards: Mapping[nn.Module, partial[Tensor]] = {}  # replaced as a whole, never mutated
    virtual: tuple[VirtualSegment, ...] = ()


_now = _Now()


@contextmanager
def replace_forward(
    forwards: Mapping[nn.Module, partial[Tensor]], virtual: tuple[VirtualSegment, ...] = ()
) -> Iterator[None]:
    """Inside this block, these layers compute by these functions in passes of this thread."""
    before = _now.forwards, _now.virtual
    if virtual:
        embedding = virtual[0].tokens.embedding
        forwards = {**forwards, embedding: partial(embed, embedding, virtual)}
    try:
        for layer in forwards:
            layer.forward = partial(_forward_changed, layer)
        _now.forwards, _now.virtual = forwards, virtual
        yield
    finally:
        _now.forwards, _now.virtual = before


def is_any_on() -> bool:
    """Whether an adapter is active in this thread's pass."""
    return bool(_now.forwards)


def prefix_rows(ids: Tensor) -> tuple[PrefixRows, ...]:
    """Where in a row of ids the keys and values of this thread's prefixes belong."""
    return prefixes_of(_now.virtual, ids) if _now.virtual else ()


def without_virtual(ids: Tensor, states: Tensor) -> Tensor:
    """The states of a row without those of virtual tokens, of which there are none without their adapter."""
    return real_tokens(ids, states) if _now.virtual else states


def _forward_changed(layer: nn.Module, x: Tensor) -> Tensor:
    """The forward of a layer that an adapter has changed once.

    It looks up this thread's adapter; without one it is plain.
    """
    forward = _now.forwards.get(layer)
    return plain_output(layer, x) if forward is None else forward(x)


def _apply_change(change: Change, x: Tensor) -> Tensor:
    """The layer's output with the change applied to all of x."""
    return change.compute(x)


def _apply_parts(layer: nn.Module, parts: Sequence[AdapterSlice], size: int, x: Tensor) -> Tensor:
    """The layer's output for the row x, with each slice's own change."""
    rows = x.reshape(-1, x.shape[-1])
    assert len(rows) == size, f"{type(layer).__name__} sees {len(rows)} of the {size} tokens of a row: not mixable"
    out = _with_wholes(layer, parts, rows)
    for change, start, end in parts:
        if not change.is_whole(end - start):
            change.edit(rows[start:end], out[start:end])
    return out.view(*x.shape[:-1], -1)


def _with_wholes(layer: nn.Module, parts: Sequence[AdapterSlice], rows: Tensor) -> Tensor:
    """Compute the slices whose change gives the whole output; all other tokens use the layer's own weights."""
    wholes = [part for part in parts if part.change.is_whole(part.end - part.start)]
    if not wholes:
        return plain_output(layer, rows)
    out = rows.new_empty(len(rows), getattr(layer, "out_features", rows.shape[-1]))
    done = 0
    for change, start, end in wholes:
        _plain_into(layer, rows[done:start], out[done:start])
        change.write(rows[start:end], out[start:end])
        done = end
    _plain_into(layer, rows[done:], out[done:])
    return out


def _plain_into(layer: nn.Module, rows: Tensor, out: Tensor) -> None:
    if type(layer) is nn.Linear:
        linear_into(rows, layer.weight.T, layer.bias, out)
    elif len(rows):
        out.copy_(plain_output(layer, rows))
