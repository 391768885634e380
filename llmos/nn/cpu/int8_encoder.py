"""An int8 encoder layer as one C kernel whose intermediate results stay in the CPU's cache.

The layer's parts use fused kernels already (nn/cpu/fused.py); the result is equal to theirs to the bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llmos.nn.adapters.adapter import is_any_on
from llmos.nn.attention import Layout
from llmos.nn.cpu.cpu_kernels import Encoder, Kernels, fits
from llmos.nn.cpu.int8_linear import Int8

PARTS = {"attention", "intermediate", "output"}
TRIED = (5, 1, 40)  # tokens of each sequence in a trial

Layer = Any  # Any: a layer of some architecture, whose parts were checked
Kind = type[nn.Module]


class Told(NamedTuple):
    """The kernel's arguments for one layer, and the tensors that they point to."""

    encoder: Encoder
    kept: tuple[Tensor, ...]


def encoder_class(layer: Layer, loops: Kernels) -> Kind | None:
    """The class that computes this layer in one kernel, if a trial gives the layer's own numbers; else None."""
    if not _is_like(layer) or (scale := _scale(layer)) is None:
        return None
    kind = type(layer)

    def forward(layer: Layer, hidden_states: Tensor, *more: Any, **named: Any) -> Any:  # Any: as the layer's own
        layout = named.get("layout")
        is_asked = any(one is not None for one in more)
        if layout is None or layout.plan is not None or layout.told is not None or is_asked or is_any_on():
            return kind.forward(layer, hidden_states, *more, **named)
        if not fits(hidden_states):
            return kind.forward(layer, hidden_states, *more, **named)
        if (told := layer.__dict__.get("told")) is None:
            told = layer.told = _kernel_args(layer, scale)
        made = loops.encode(told.encoder, hidden_states[0], layout.lengths)
        return kind.forward(layer, hidden_states, *more, **named) if made is None else made.unsqueeze(0)

    better = type(kind.__name__, (kind,), {"forward": forward, "is_whole": True, "__module__": kind.__module__})
    return better if _agree(layer, better) else None


def _is_like(layer: Layer) -> bool:
    """Whether its parts are those of BERT (Devlin et al. 2018, arXiv:1810.04805), each with a fused kernel already."""
    if {name for name, _ in layer.named_children()} != PARTS:
        return False
    try:
        products, norms = _products(layer), _norms(layer)
        activation = layer.intermediate.intermediate_act_fn
    except AttributeError:
        return False
    if not getattr(activation, "is_gelu", False) or not all(getattr(norm, "is_centred", False) for norm in norms):
        return False
    if not all(isinstance(one, Int8) and one.packed is not None and "forward" not in vars(one) for one in products):
        return False
    return len({one.is_nibbles for one in products[:3]}) == 1  # queries, keys and values share one number format


def _products(layer: Layer) -> list[Layer]:
    inner, out = layer.attention.self, layer.attention.output.dense
    return [inner.query, inner.key, inner.value, out, layer.intermediate.dense, layer.output.dense]


def _norms(layer: Layer) -> list[Layer]:
    return [layer.attention.output.LayerNorm, layer.output.LayerNorm]


@torch.inference_mode()
def _scale(layer: Layer) -> float | None:
    """The scale that the layer passes to its attention function; None if it passes other options too."""
    asked: list[dict[str, Any]] = []  # Any: as attention.attend takes it
    try:
        layer(torch.zeros(1, 3, layer.output.dense.out_features), layout=Layout((2, 1), told=asked))
    except Exception:  # noqa: BLE001  what it takes is another architecture's business
        return None
    if len(asked) != 1:
        return None
    scale = asked[0].pop("scaling")
    is_causal = getattr(layer.attention.self, "is_causal", True)
    if is_causal or any(value not in (None, False) for value in asked[0].values()) or not isinstance(scale, float):
        return None
    return scale


def _kernel_args(layer: Layer, scale: float) -> Told:
    inner, norms = layer.attention.self, _norms(layer)
    kept = tuple(x.float().contiguous() for norm in norms for x in (norm.weight, norm.bias))
    encoder = Encoder(
        *(one.packed.matrix for one in _products(layer)),
        *(x.data_ptr() for x in kept),
        *(norm.eps for norm in norms),
        scale,
        inner.query.out_features // inner.attention_head_size,
        inner.attention_head_size,
    )
    return Told(encoder, kept)


@torch.inference_mode()
def _agree(layer: Layer, kind: Kind) -> bool:
    """Whether both give the same numbers."""
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(1, sum(TRIED), layer.output.dense.out_features, generator=drawn)
    try:
        wanted, got = (one.forward(layer, x, layout=Layout(TRIED)) for one in (type(layer), kind))
    except Exception:  # noqa: BLE001  a layer with parts like theirs that takes something else
        return False
    finally:
        layer.__dict__.pop("told", None)
    return isinstance(wanted, Tensor) and torch.equal(wanted, got)
