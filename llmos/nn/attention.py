"""The one attention function: it knows where each sequence of a packed row begins; nothing else in a model does.

transformers calls it under the name `NAME` through its AttentionInterface. It has no mask function there, and that
is how one asks for no mask: what a token may see follows from the layout, which travels as the keyword `layout`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from llmos.abi.error import BadInput
from llmos.nn.kv import KV

NAME = "llmos_packed"
UNKNOWN = ("softcap", "s_aux", "position_bias", "indexer_topk")  # would change the answer if they were left out


@dataclass(frozen=True, slots=True)
class Layout:
    """The lengths of the sequences of a packed row, in order; `caches` hold what came before each, if anything did."""

    lengths: tuple[int, ...]
    caches: tuple[KV, ...] | None = None

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Neighbours of equal length, as (first token, sequences, length): each is one product without padding."""
        start = 0
        for length, group in groupby(self.lengths):
            count = sum(1 for _ in group)
            yield start, count, length
            start += count * length


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    layout: Layout,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **rest: Any,  # Any: whatever an architecture passes to every attention function
) -> tuple[Tensor, None]:
    """Heads attend within their own sequence: [1, heads, T, d] in, [1, T, heads, d] out."""
    if unknown := [name for name in UNKNOWN if rest.get(name) is not None]:
        raise BadInput(f"{type(module).__name__} needs {', '.join(unknown)}, which packed attention does not do yet")
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    if layout.caches is not None:
        return _continued(module, query, key, value, layout, scaling, sliding_window), None
    if query.is_cuda and query.dtype != torch.float32 and not dropout:  # what its kernels can do
        return _varlen(query, key, value, layout, causal, scaling, sliding_window), None
    runs = [(count, length) for _, count, length in layout.runs()]
    # Split, not slices: each slice's gradient would be a whole row of zeros with its part filled in.
    split = (torch.split(x[0], [count * length for count, length in runs], dim=1) for x in (query, key, value))
    parts = []
    for (count, length), *qkv in zip(runs, *split, strict=True):
        q, k, v = (x.unflatten(1, (count, length)).transpose(0, 1) for x in qkv)
        mask = None
        if sliding_window is not None and sliding_window < length:
            mask = window(length, length, sliding_window, causal, query.device)
        out = scaled_dot_product_attention(
            q, k, v, mask, dropout, causal and mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
        )
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).unsqueeze(0), None


def window(queries: int, keys: int, size: int | None, causal: bool, device: torch.device) -> Tensor:
    """Which keys each of the last `queries` tokens sees: those nearer than `size`, and none ahead if causal."""
    seen_from = torch.arange(keys - queries, keys, device=device).unsqueeze(1)
    distance = seen_from - torch.arange(keys, device=device)
    near = distance.abs() < (keys if size is None else size)
    return near & (distance >= 0) if causal else near


def _continued(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float | None,
    size: int | None,
) -> Tensor:
    """Each sequence goes on from its cache: its new keys and values join it, its new queries see all of it."""
    assert layout.caches is not None
    parts: list[Tensor] = []
    start = 0
    for length, cache in zip(layout.lengths, layout.caches, strict=True):
        here = slice(start, start + length)
        k, v = cache.extend(int(module.layer_idx), key[0, :, here], value[0, :, here])  # type: ignore[arg-type]  # an int on every attention module
        parts.append(_latest(query[:, :, here], k, v, scaling, size))
        start += length
    return torch.cat(parts).unsqueeze(0)


def _latest(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, size: int | None) -> Tensor:
    """The newest tokens of one sequence, [1, heads, n, d], over all its keys, [kv heads, seen, d] -> [n, heads, d]."""
    _, heads, new, d = q.shape
    if new == 1:  # one token sees all: no mask, and the query heads of a kv head are its rows
        first = 0 if size is None else max(0, k.shape[1] - size)
        out = scaled_dot_product_attention(
            q.reshape(1, k.shape[0], -1, d), k[None, :, first:], v[None, :, first:], scale=scaling
        )
        return out.reshape(1, heads, -1)
    is_whole = new == k.shape[1] and (size is None or size >= new)
    mask = None if is_whole else window(new, k.shape[1], size, True, q.device)
    out = scaled_dot_product_attention(
        q, k.unsqueeze(0), v.unsqueeze(0), mask, is_causal=is_whole, scale=scaling, enable_gqa=heads != k.shape[0]
    )
    return out[0].transpose(0, 1)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, causal: bool, scaling: float | None, size: int | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # only where there is a GPU: the import costs

    ends = torch.tensor((0, *layout.lengths), device=query.device).cumsum(0, dtype=torch.int32)
    longest = max(layout.lengths)
    reach = -1 if size is None else size - 1
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    out = varlen_attn(
        q,
        k,
        v,
        ends,
        ends,
        longest,
        longest,
        scale=scaling,
        window_size=(reach, 0 if causal else reach),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, Tensor)
    return out.unsqueeze(0)


AttentionInterface.register(NAME, attend)
