"""Attention over packed sequences: each token attends within its own sequence of the row (varlen layout).

transformers calls it through its AttentionInterface under the name `NAME`. No mask function is registered for that
name, so transformers builds no mask. The layout travels as the keyword `layout` and says what each token may see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from llmos.abi.error import BadInput
from llmos.nn.adapters.virtual import PrefixRows, put_prefixes
from llmos.nn.cpu.cpu_kernels import fits, kernels
from llmos.nn.generation.cross_attention import CrossAttention
from llmos.nn.generation.paged_attention import Plan, window
from llmos.nn.padded_attention import attend_padded
from llmos.nn.relative_bias import RelativeBias

NAME = "llmos_packed"
UNKNOWN = ("softcap", "s_aux", "indexer_topk")  # options that change the result if they are ignored


@dataclass(frozen=True, slots=True)
class Layout:
    """The lengths of the sequences of a packed row, in order; with a plan, each sequence continues from its KV cache.

    If `told` is a list, each layer appends the options that it passes to this function. In a decoder with an encoder,
    `sources` are the lengths of the encoder's sequences, or `across` is the cross-attention over their KV cache.
    """

    lengths: tuple[int, ...]
    plan: Plan | None = None
    told: list[dict[str, Any]] | None = None  # Any: as attend takes it
    sources: tuple[int, ...] | None = None
    across: CrossAttention | None = None
    prefixes: tuple[PrefixRows, ...] = ()  # trained keys and values of virtual tokens

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Group neighbours of equal length as (first token, sequences, length): each group is one product without
        padding."""
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
    """Attend within each sequence: queries [1, heads, T, d] in, [1, T, heads, d] out."""
    if layout.told is not None:
        asked = {"scaling": scaling, "sliding_window": sliding_window, "is_causal": is_causal}
        layout.told.append(asked | {name: value for name, value in rest.items() if name in UNKNOWN})
    _refuse_unknown(module, rest)
    if layout.prefixes:
        key, value = put_prefixes(layout.prefixes, _index(module), key, value)
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    bias = _bias(module, rest.get("position_bias"))
    is_across = not causal and (layout.sources is not None or layout.across is not None)
    if layout.across is not None and is_across:
        return layout.across.attend(_index(module), query[0], scaling).unsqueeze(0), None
    if layout.plan is not None:
        mine = query[0], key[0], value[0]
        return layout.plan.attend(_index(module), *mine, scaling, sliding_window, bias).unsqueeze(0), None
    held = layout.sources if is_across and layout.sources is not None else layout.lengths
    is_plain = bias is None and not dropout
    if query.is_cuda and query.dtype != torch.float32 and is_plain:  # what torch's varlen kernels support
        return _varlen(query, key, value, layout.lengths, held, causal, scaling, sliding_window), None
    loops = kernels() if is_plain and fits(query, key, value) else None
    if loops is not None:
        starts, kept = ((0, *accumulate(lengths)) for lengths in (layout.lengths, held))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        whole = query[0], key[0], value[0]
        made = loops.row(whole, starts, kept, scale, is_causal=causal, window=sliding_window)
        if made is not None:
            return made.unsqueeze(0), None
    is_alike = query.shape[1] == key.shape[1] and held == layout.lengths and sliding_window is None
    if dropout and bias is None and is_alike and query.device.type == "cpu":
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        out = attend_padded(query[0], key[0], value[0], layout.lengths, dropout, scale, causal=causal)
        return out.unsqueeze(0), None
    lengths = layout.lengths, held
    return _by_runs(query[0], key[0], value[0], lengths, causal, bias, sliding_window, dropout, scaling), None


def _by_runs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[tuple[int, ...], tuple[int, ...]],
    causal: bool,
    bias: RelativeBias | None,
    sliding_window: int | None,
    dropout: float,
    scaling: float | None,
) -> Tensor:
    """Neighbours of equal lengths, of queries and of keys, in one product without padding: [1, T, heads, d]."""
    runs = [(*pair, sum(1 for _ in group)) for pair, group in groupby(zip(*lengths, strict=True))]
    # Split, not slices: the gradient of a slice is a row of zeros as long as the whole, one for each slice.
    queries = torch.split(query, [count * length for length, _, count in runs], dim=1)
    keys, values = (torch.split(x, [count * length for _, length, count in runs], dim=1) for x in (key, value))
    parts = []
    for (length, seen, count), *qkv in zip(runs, queries, keys, values, strict=True):
        q, k, v = (x.reshape(len(x), count, -1, x.shape[-1]).transpose(0, 1) for x in qkv)
        mask = None
        if bias is not None:
            mask = bias.between(length, seen, causal=causal).to(q.dtype)
        elif sliding_window is not None and sliding_window < length:
            mask = window(length, length, sliding_window, causal=causal, device=query.device)
        out = scaled_dot_product_attention(
            q, k, v, mask, dropout, causal and mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
        )
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).unsqueeze(0)


def _refuse_unknown(module: nn.Module, rest: Mapping[str, Any]) -> None:  # Any: as attend takes it
    """BadInput for an option that would change the result if it was ignored."""
    if unknown := [name for name in UNKNOWN if rest.get(name) is not None]:
        raise BadInput(
            f"{type(module).__name__} needs {', '.join(unknown)}, which packed attention does not do yet",
            module=type(module).__name__,
            needs=unknown,
        )


def _index(module: nn.Module) -> int:
    return int(module.layer_idx)  # type: ignore[arg-type]  # an int on every attention module


def _bias(module: nn.Module, given: object) -> RelativeBias | None:
    if isinstance(given, RelativeBias):
        return given
    if given is not None and given is not False:
        raise BadInput(
            f"{type(module).__name__} needs a position_bias of its own, which packed attention does not do",
            module=type(module).__name__,
            needs=["position_bias"],
        )
    return None


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    asked: tuple[int, ...],
    held: tuple[int, ...],
    causal: bool,
    scaling: float | None,
    size: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # imported late, and only with a GPU: the import is slow

    ends, kept = (torch.tensor((0, *some), device=query.device).cumsum(0, dtype=torch.int32) for some in (asked, held))
    reach = -1 if size is None else size - 1
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    out = varlen_attn(
        q,
        k,
        v,
        ends,
        kept,
        max(asked),
        max(held),
        scale=scaling,
        window_size=(reach, 0 if causal else reach),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, Tensor)
    return out.unsqueeze(0)


AttentionInterface.register(NAME, attend)
