"""Relative position bias, as in T5: a learned score per head for the distance of two tokens.

T5's layers pass their bias on to the next. Here the first layer passes its table instead, and attention reads the bias
of each sequence from it, so that a packed row needs no [T, T] matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Layer = Any  # Any: an attention layer of T5's family


class RelativeBias:
    """The bias table of one forward pass, [buckets, heads]; all layers read it."""

    def __init__(self, table: Tensor, bucket: Callable[[Tensor], Tensor]) -> None:
        self._table, self._bucket = table, bucket
        self._made: dict[Hashable, Tensor] = {}

    def over(self, distances: Tensor) -> Tensor:
        """The bias for distances [rows, keys] from a query to its keys, [rows, heads, keys]."""
        key = id(distances), distances.shape
        if key not in self._made:
            self._made[key] = self._of(distances).transpose(1, 2)
        return self._made[key]

    def between(self, queries: int, keys: int, *, causal: bool) -> Tensor:
        """The bias of the last `queries` tokens over all keys, [heads, queries, keys]; causal: -inf ahead."""
        key = queries, keys, causal
        if key not in self._made:
            device = self._table.device
            line = self._of(torch.arange(1 - keys, keys, device=device))  # each distance once
            at = torch.arange(keys, device=device) - torch.arange(keys - queries, keys, device=device).unsqueeze(1)
            made = line[at + keys - 1].permute(2, 0, 1)
            self._made[key] = made.masked_fill(at > 0, -torch.inf) if causal else made
        return self._made[key]

    def _of(self, distances: Tensor) -> Tensor:
        return nn.functional.embedding(self._bucket(distances), self._table)


def set_bias_table(
    layer: Layer, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, Any] | None:  # Any: a layer's own arguments
    """A forward hook for T5 layers: passes the table in place of the bias; False for a layer without a table."""
    if named.get("layout") is None or named.get("position_bias") is not None:
        return None
    return args, named | {"position_bias": _of(layer) if layer.has_relative_attention_bias else False}


def _of(layer: Layer) -> RelativeBias:
    bucket = partial(
        layer._relative_position_bucket,
        bidirectional=not layer.is_decoder,
        num_buckets=layer.relative_attention_num_buckets,
        max_distance=layer.relative_attention_max_distance,
    )
    return RelativeBias(layer.relative_attention_bias.weight, bucket)


def watch(model: nn.Module) -> None:
    """Make the model's layers pass their tables to the attention function from now on."""
    for layer in model.modules():
        if hasattr(layer, "has_relative_attention_bias") and hasattr(layer, "_relative_position_bucket"):
            layer.register_forward_pre_hook(set_bias_table, with_kwargs=True)
