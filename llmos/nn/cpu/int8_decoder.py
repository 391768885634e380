"""An int8 decoder layer as one C kernel for decode steps of one token per sequence.

For one token, the Python calls of norms, products and attention take longer than the computation. The layer's parts use
fused kernels already (nn/cpu/fused.py); the result is equal to theirs to the bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llmos.nn.adapters.adapter import is_any_on
from llmos.nn.attention import Layout
from llmos.nn.cpu.cpu_kernels import Decoder, Matrix, fits
from llmos.nn.cpu.int8_linear import Int8
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache
from llmos.nn.generation.paged_attention import Plan

PARTS = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
GATE = ("gate_proj", "up_proj", "down_proj")
TRIED = (BLOCK + 3, 2)  # tokens of each sequence in a trial; one decode step follows

Layer = Any  # Any: a layer of some architecture, whose parts were checked
Kind = type[nn.Module]


class Made(NamedTuple):
    """The kernel's arguments for one layer, and the tensors that they point to."""

    decoder: Decoder
    kept: tuple[Tensor | None, ...]


def decoder_class(layer: Layer) -> Kind | None:
    """The class that computes a decode step in one kernel, if a trial gives the layer's own numbers; else None."""
    if not _is_like(layer):
        return None
    asked = layer.self_attn.asked
    kind, window = type(layer), asked["sliding_window"]

    def forward(layer: Layer, hidden_states: Tensor, *more: Any, **named: Any) -> Any:  # Any: as the layer's own
        layout, positions = named.get("layout"), named.get("position_embeddings")
        plan = None if layout is None or layout.told is not None else layout.plan
        if more or plan is None or not plan.is_lone or positions is None or is_any_on() or not fits(hidden_states):
            return kind.forward(layer, hidden_states, *more, **named)
        if (told := layer.__dict__.get("told")) is None:
            told = layer.told = kernel_args(layer)
        turns = positions[0][0], positions[1][0]
        out = plan.decode(layer.self_attn.layer_idx, told.decoder, hidden_states[0], turns, window)
        return kind.forward(layer, hidden_states, *more, **named) if out is None else out.unsqueeze(0)

    better = type(kind.__name__, (kind,), {"forward": forward, "is_whole": True, "__module__": kind.__module__})
    return better if _agree(layer, better) else None


def _is_like(layer: Layer) -> bool:
    """Whether its parts are those of Llama (Touvron et al.

    2023, arXiv:2302.13971), each with a fused kernel already.
    """
    if {name for name, _ in layer.named_children()} != PARTS:
        return False
    attention, gate = layer.self_attn, layer.mlp
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    norms += [attention.q_norm, attention.k_norm] if hasattr(attention, "q_norm") else []
    asked = getattr(attention, "asked", None)
    if asked is None or asked["is_causal"] is False or not getattr(gate, "is_gated", False):
        return False
    if not all(hasattr(norm, "offset") for norm in norms):
        return False
    products = [getattr(attention, name) for name in PROJECTIONS] + [getattr(gate, name) for name in GATE]
    if not all(isinstance(one, Int8) and one.packed is not None and "forward" not in vars(one) for one in products):
        return False
    # they share an input
    return all(len({one.is_nibbles for one in some}) == 1 for some in (products[:3], products[4:6]))


def kernel_args(layer: Layer) -> Made:
    """The kernel's arguments for this layer, which `_is_like` has accepted."""
    attention, gate = layer.self_attn, layer.mlp
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    norms += [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
    weights = tuple(None if norm is None else (norm.weight.float() + norm.offset).contiguous() for norm in norms)
    products: list[Matrix] = [getattr(attention, name).packed.matrix for name in PROJECTIONS]
    products += [getattr(gate, name).packed.matrix for name in GATE]
    d, scale = attention.head_dim, attention.asked["scaling"]
    decoder = Decoder(
        *products,
        *(None if weight is None else weight.data_ptr() for weight in weights),
        *(0.0 if norm is None else norm.epsilon for norm in norms),
        d**-0.5 if scale is None else scale,
        attention.q_proj.out_features // d,
        attention.k_proj.out_features // d,
        d,
    )
    return Made(decoder, weights)


@torch.inference_mode()
def _agree(layer: Layer, kind: Kind) -> bool:
    """Whether both give the same numbers for a decode step over a filled KV cache."""
    hidden, d = layer.self_attn.q_proj.in_features, layer.self_attn.head_dim
    drawn = torch.Generator().manual_seed(0)
    pool = KVCache(2 * len(TRIED) * BLOCK, 1)
    kvs = [SequenceCache(pool, bytes([place]), [0] * tokens) for place, tokens in enumerate(TRIED)]

    def compute(by: Kind, lengths: tuple[int, ...]) -> Tensor:
        for kv, length in zip(kvs, lengths, strict=True):
            kv.grow(length)
        tokens = sum(lengths)
        angles = torch.randn(1, tokens, d // 2, generator=drawn).repeat(1, 1, 2)
        x = torch.randn(1, tokens, hidden, generator=drawn)
        named = {"position_embeddings": (angles.cos(), angles.sin()), "attention_mask": None}
        plan = Plan(lengths, kvs, torch.device("cpu"))
        out: Any = by.forward(layer, x, layout=Layout(lengths, plan), **named)  # Any: what the architecture returns
        return out if isinstance(out, Tensor) else torch.empty(0)

    try:
        compute(type(layer), TRIED)
        for kv, length in zip(kvs, TRIED, strict=True):
            kv.advance([0] * length)
        state = drawn.get_state()
        wanted = compute(type(layer), (1,) * len(TRIED))
        drawn.set_state(state)
        got = compute(kind, (1,) * len(TRIED))
    except Exception:  # noqa: BLE001  a layer with parts like theirs that takes something else
        return False
    finally:
        layer.__dict__.pop("told", None)
    return wanted.shape == got.shape and bool(torch.equal(wanted, got))
