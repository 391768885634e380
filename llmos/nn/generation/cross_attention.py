"""Cross-attention of a decoder over an encoder's output, whose keys and values are in the KV cache.

They are computed once (`encoder_state.py`) and only read here. Their blocks come from the same pool as all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from llmos.nn.generation.kv_cache import BLOCK, Pair, SequenceCache
from llmos.nn.generation.paged_attention import each, visible_range


class CrossAttention:
    """Cross-attention of one step: the number of tokens per sequence, and each sequence's source; planned once for all
    layers."""

    def __init__(self, lengths: Sequence[int], sources: Sequence[SequenceCache], device: torch.device) -> None:
        self._pool = sources[0].pool
        self._lengths, self._sources, self._device = lengths, sources, device
        self._starts = [0, *accumulate(lengths)]
        self._lone = [i for i, length in enumerate(lengths) if length == 1]
        lone = [sources[i] for i in self._lone]
        self._reach = (
            visible_range([kv.table for kv in lone], [0] * len(lone), [kv.length - 1 for kv in lone], device)
            if lone
            else None
        )

    def attend(self, layer: int, query: Tensor, scale: float | None) -> Tensor:
        """Attend from queries [heads, T, d] to all of each sequence's source -> [T, heads, d]."""
        held = self._pool.layer(layer, query, query)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        if self._reach is not None and len(self._lone) == len(self._lengths):
            return each(self._pool, query, held, self._reach, scale)
        out = query.new_empty(query.shape[1], len(query), query.shape[2])
        if self._reach is not None:
            at = torch.tensor([self._starts[i] for i in self._lone], device=self._device)
            out[at] = each(self._pool, query[:, at], held, self._reach, scale)
        for i, length in enumerate(self._lengths):
            if length > 1:
                here = slice(self._starts[i], self._starts[i + 1])
                k, v = self._source_kv(self._sources[i], held)
                made = scaled_dot_product_attention(query[None, :, here], k, v, scale=scale)
                out[here] = made[0].transpose(0, 1)
        return out

    def _source_kv(self, source: SequenceCache, held: Pair) -> Pair:
        """A source's keys and values in order, [1, heads, tokens, d]."""
        blocks = torch.tensor(source.table[: -(-source.length // BLOCK)], device=self._device)
        k, v = (x.index_select(0, blocks).transpose(0, 1).flatten(1, 2)[None, :, : source.length] for x in held)
        return k, v
