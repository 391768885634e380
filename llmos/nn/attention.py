"""The one attention function: it knows where each sequence of a packed row begins; nothing else in a model does.

transformers calls it under the name `NAME` through its AttentionInterface. It has no mask function there, and that
is how one asks for no mask: what a token may see follows from the layout, which travels as the keyword `layout`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from llmos.abi.error import BadInput
from llmos.nn.compiled import fits, kernels
from llmos.nn.paged import Plan, window

NAME = "llmos_packed"
UNKNOWN = ("softcap", "s_aux", "position_bias", "indexer_topk")  # would change the answer if they were left out


@dataclass(frozen=True, slots=True)
class Layout:
    """The lengths of the sequences of a packed row, in order; with a plan, each goes on from what came before it.

    Where there is a list in `told`, each layer leaves there what it asks of this function beside the layout.
    """

    lengths: tuple[int, ...]
    plan: Plan | None = None
    told: list[dict[str, Any]] | None = None  # Any: as attend takes it

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
    if layout.told is not None:
        asked = {"scaling": scaling, "sliding_window": sliding_window, "is_causal": is_causal}
        layout.told.append(asked | {name: value for name, value in rest.items() if name in UNKNOWN})
    if unknown := [name for name in UNKNOWN if rest.get(name) is not None]:
        raise BadInput(f"{type(module).__name__} needs {', '.join(unknown)}, which packed attention does not do yet")
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    if layout.plan is not None:
        layer = int(module.layer_idx)  # type: ignore[arg-type]  # an int on every attention module
        return layout.plan.attend(layer, query[0], key[0], value[0], scaling, sliding_window).unsqueeze(0), None
    if query.is_cuda and query.dtype != torch.float32 and not dropout:  # what its kernels can do
        return _varlen(query, key, value, layout, causal, scaling, sliding_window), None
    loops = kernels() if fits(query, key, value) and not dropout and query.shape[-1] == value.shape[-1] else None
    if loops is not None:
        starts = (0, *accumulate(layout.lengths))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        whole = query[0], key[0], value[0]
        return loops.row(whole, starts, starts, scale, is_causal=causal, window=sliding_window).unsqueeze(0), None
    runs = [(count, length) for _, count, length in layout.runs()]
    # Split, not slices: each slice's gradient would be a whole row of zeros with its part filled in.
    split = (torch.split(x[0], [count * length for count, length in runs], dim=1) for x in (query, key, value))
    parts = []
    for (count, length), *qkv in zip(runs, *split, strict=True):
        q, k, v = (x.unflatten(1, (count, length)).transpose(0, 1) for x in qkv)
        mask = None
        if sliding_window is not None and sliding_window < length:
            mask = window(length, length, sliding_window, causal=causal, device=query.device)
        out = scaled_dot_product_attention(
            q, k, v, mask, dropout, causal and mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
        )
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).unsqueeze(0), None


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
