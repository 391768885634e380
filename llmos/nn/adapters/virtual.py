"""Virtual tokens: trained tokens in front of every sequence of a model, in a packed row that others share.

They have negative ids, -1, -2 ...: the embedding gives their vectors, or attention their keys and values. No output is
made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from llmos.nn.adapters.changes import plain_output


@dataclass(frozen=True, eq=False)
class VirtualTokens:
    """The virtual tokens of one adapter; `values` gives them, [count, hidden], or as a prefix.

    A prefix is [count, layers * 2, heads, head size]: a key and a value of each layer, as PEFT keeps them.
    """

    embedding: nn.Module
    count: int
    values: Callable[[], Tensor]
    is_prefix: bool = False

    def keys_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, each [heads, count, head size]."""
        held = self.values()[:, 2 * layer : 2 * layer + 2].permute(1, 2, 0, 3)
        return held[0], held[1]


def ids_of(count: int) -> tuple[int, ...]:
    """The ids of so many virtual tokens."""
    return tuple(range(-1, -1 - count, -1))


@dataclass(frozen=True, slots=True)
class VirtualSegment:
    """A range of a row, [start, end), whose virtual tokens are these; no end: to the end of the row."""

    tokens: VirtualTokens
    start: int = 0
    end: int | None = None


@dataclass(frozen=True, slots=True)
class PrefixRows:
    """Where in a row the keys and values of a prefix belong: rows of the row, and the index of the token of each."""

    tokens: VirtualTokens
    rows: Tensor
    index: Tensor


def embed(embedding: nn.Module, segments: Sequence[VirtualSegment], ids: Tensor) -> Tensor:
    """The embedding's vectors, with those of virtual tokens in their places."""
    out = plain_output(embedding, ids.clamp(min=0))
    if ids.min() >= 0:
        return out
    flat, vectors = ids.reshape(-1), out.reshape(-1, out.shape[-1])
    for one in segments:
        if not one.tokens.is_prefix:
            rows, index = _places(flat, one)
            vectors = vectors.index_copy(0, rows, one.tokens.values()[index].to(vectors.dtype))
    return vectors.view_as(out)


def prefixes_of(segments: Sequence[VirtualSegment], ids: Tensor) -> tuple[PrefixRows, ...]:
    """Where the prefixes of these segments are in a row of ids."""
    flat = ids.reshape(-1)
    return tuple(PrefixRows(one.tokens, *_places(flat, one)) for one in segments if one.tokens.is_prefix)


def put_prefixes(prefixes: Sequence[PrefixRows], layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values, [1, heads, T, d], with those of the prefixes in their places."""
    for one in prefixes:
        keys, values = one.tokens.keys_values(layer)
        key = key.index_copy(2, one.rows, keys[:, one.index].unsqueeze(0).to(key.dtype))
        value = value.index_copy(2, one.rows, values[:, one.index].unsqueeze(0).to(value.dtype))
    return key, value


def _places(flat: Tensor, one: VirtualSegment) -> tuple[Tensor, Tensor]:
    ids = flat[one.start : one.end]
    rows = (ids < 0).nonzero().flatten()
    return rows + one.start, -1 - ids[rows]


def real_tokens(ids: Tensor, states: Tensor) -> Tensor:
    """The states of a row without those of virtual tokens; `ids` [1, T], states [T, ...]."""
    is_real = ids[0] >= 0
    return states if bool(is_real.all()) else states[is_real]
