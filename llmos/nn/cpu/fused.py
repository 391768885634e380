"""Fused norms, gates, rotary embeddings and activations, each as one C kernel.

It does not depend on the architecture: a layer's class is replaced if a trial gives the layer's own numbers. Outside of
inference mode, and for tensors that a kernel does not support, the layer computes as before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

from llmos.nn.attention import Layout, attend
from llmos.nn.cpu.cpu_kernels import Kernels, fits, kernels
from llmos.nn.cpu.int8_decoder import GATE, PROJECTIONS, decoder_class
from llmos.nn.cpu.int8_encoder import encoder_class
from llmos.nn.cpu.int8_linear import Int8

CLOSE, CLOSE_IN_INTEGERS = 1e-5, 2e-2
TRIED_ROWS = 6

Layer = Any  # Any: a layer of some architecture, whose parts were checked
Kind = type[nn.Module]
Trial = dict[str, Any]  # Any: the arguments of a layer's forward


def fuse(model: nn.Module) -> int:
    """Replace the layers that have a fused kernel; returns how many were replaced."""
    loops = kernels()
    if loops is None:
        return 0
    found: dict[Hashable, Kind | None] = {}
    made = 0
    for layer in model.modules():
        alike = _alike(layer)
        if alike not in found:
            found[alike] = _fused_class(layer, loops)
        if (better := found[alike]) is not None:
            layer.__class__ = better
            made += 1
    for layer in model.modules():  # after their parts were replaced
        if (better := decoder_class(layer) or encoder_class(layer, loops)) is not None:
            layer.__class__ = better
            made += 1
    return made


def _alike(layer: nn.Module) -> Hashable:
    """A key that is equal for layers that compute alike: one class, equal settings and parts.

    Each attention has its own.
    """
    plain = (bool, int, float, str, type(None))
    settings = {name: value for name, value in vars(layer).items() if isinstance(value, plain)}
    parts = tuple((name, type(part)) for name, part in layer.named_children())
    return (
        type(layer),
        tuple(sorted(settings.items(), key=str)),
        parts,
        id(layer) if _has(layer, *PROJECTIONS) else None,
    )


def _fused_class(layer: nn.Module, loops: Kernels) -> Kind | None:
    """The class that computes this layer with a fused kernel, or None."""
    kind = type(layer)
    parameters = [*layer.parameters()]
    if any(parameter.dtype != torch.float32 or parameter.device.type != "cpu" for parameter in parameters):
        return None
    tried: list[tuple[Kind, tuple[Tensor, ...], Trial]]
    if _is_norm(layer):
        some = _rows(parameters[0].shape[-1])
        tried = [(_norm(kind, loops, offset), (some,), {}) for offset in (0.0, 1.0)]
    elif kind is nn.LayerNorm:
        if [parameter.dim() for parameter in parameters] != [1, 1]:
            return None
        tried = [(_layer_norm(kind, loops), (_rows(parameters[0].shape[-1]),), {})]
    elif "GELU" in kind.__name__:
        tried = [(_activation(kind, loops), (_rows(64),), {})]
    elif _has(layer, *GATE):
        tried = [(_gated_mlp(kind, loops), (_rows(layer.gate_proj.in_features),), {})]  # type: ignore[union-attr, arg-type]
    elif _has(layer, *PROJECTIONS) and isinstance(getattr(layer, "head_dim", None), int):
        return _attention(layer, loops)
    else:
        return None
    return next((one for one, args, named in tried if _agree(layer, one, args, named)), None)


def _attention(layer: Layer, loops: Kernels) -> Kind | None:
    """The fused class of a rotary attention layer, or None.

    The options are recorded from a trial call of the layer: a sliding window shows in no output of a few tokens.
    """
    told: list[dict[str, Any]] = []  # Any: the attention function's arguments
    trial = _attention_trial(layer, told)
    try:
        with torch.inference_mode():
            type(layer).forward(layer, **trial)
    except Exception:  # noqa: BLE001  what it takes is another architecture's business
        return None
    if len(told) != 1:
        return None
    found = _rotary_attention(type(layer), loops, told[0])
    return found if _agree(layer, found, (), trial) else None


def _is_norm(layer: nn.Module) -> bool:
    weight = getattr(layer, "weight", None)
    return "RMSNorm" in type(layer).__name__ and weight is not None and weight.dim() == 1 and _eps(layer) is not None


def _has(layer: nn.Module, *names: str) -> bool:
    return all(isinstance(getattr(layer, name, None), nn.Linear) for name in names)


def _eps(layer: nn.Module) -> float | None:
    found = getattr(layer, "variance_epsilon", None) or getattr(layer, "eps", None)
    return found if isinstance(found, float) else None


def _norm(kind: Kind, loops: Kernels, offset: float) -> Kind:
    """An RMS norm. `offset` is added to the weights: some architectures store them minus one."""

    def forward(layer: Layer, x: Tensor, *more: Any, **named: Any) -> Tensor:  # Any: a gate, as some norms have it
        weight = layer.weight
        made = None
        if not more and not named and fits(x, weight):
            made = loops.norm(x, weight + offset if offset else weight, _eps(layer) or 0.0)
        if made is None:
            made = kind.forward(layer, x, *more, **named)
        return made

    return _with(kind, forward, offset=offset, epsilon=property(lambda layer: _eps(layer) or 0.0))


def _layer_norm(kind: Kind, loops: Kernels) -> Kind:
    def forward(layer: Layer, x: Tensor) -> Tensor:
        about = layer.weight, layer.bias
        made = loops.centre(x, *about, layer.eps) if fits(x, *about) else None
        if made is None:
            made = kind.forward(layer, x)
        return made

    return _with(kind, forward, is_centred=True)


def _activation(kind: Kind, loops: Kernels) -> Kind:
    def forward(layer: Layer, x: Tensor, *more: Any, **named: Any) -> Tensor:  # Any: as in _norm
        made = loops.gelu(x) if not more and not named and fits(x) else None
        if made is None:
            made = kind.forward(layer, x, *more, **named)
        return made

    return _with(kind, forward, is_gelu=True)


def _gated_mlp(kind: Kind, loops: Kernels) -> Kind:
    def forward(layer: Layer, x: Tensor, *more: Any, **named: Any) -> Tensor:  # Any: as in _norm
        made = None
        if not more and not named and fits(x):
            made = loops.gate(layer.gate_proj(x), layer.up_proj(x))
        out: Tensor = kind.forward(layer, x, *more, **named) if made is None else layer.down_proj(made)
        return out

    return _with(kind, forward, is_gated=True)


def _rotary_attention(kind: Kind, loops: Kernels, asked: dict[str, Any]) -> Kind:  # Any: as in _attention
    """Attention with rotary positions, and norms of queries and keys if the layer has them.

    `asked` are the options that the layer passes to its attention function, apart from the layout.
    """

    def forward(
        layer: Layer,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        **rest: Any,  # Any: whatever an architecture passes on to its attention function
    ) -> tuple[Tensor, Tensor | None]:
        layout = rest.get("layout")
        is_ours = position_embeddings is not None and fits(hidden_states, *position_embeddings)
        if is_ours and layout is not None and layout.told is None:
            assert position_embeddings is not None
            shape = (*hidden_states.shape[:-1], -1, layer.head_dim)
            query, key, value = (getattr(layer, name)(hidden_states).view(shape) for name in PROJECTIONS[:3])
            if hasattr(layer, "q_norm"):
                query, key = layer.q_norm(query), layer.k_norm(key)
            query, key = (loops.rotate(x, *position_embeddings) for x in (query, key))
            if query is not None and key is not None:
                seen, _ = attend(layer, *(x.transpose(1, 2) for x in (query, key, value)), layout=layout, **asked)
                return layer.o_proj(seen.reshape(*hidden_states.shape[:-1], -1)), None
        own: tuple[Tensor, Tensor | None] = kind.forward(
            layer, hidden_states, position_embeddings=position_embeddings, attention_mask=attention_mask, **rest
        )
        return own

    return _with(kind, forward, asked=asked)


def _with(kind: Kind, forward: Callable[..., Any], **said: Any) -> Kind:  # Any: what the class's forward returns
    """A subclass with this forward. The attributes `said` describe it to nn/cpu/int8_decoder.py and int8_encoder.py."""
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__, **said})


def _rows(width: int) -> Tensor:
    """Rows of very different magnitudes: a wrong function may be right for small numbers alone, or for large ones."""
    spread = torch.logspace(-3, 2, TRIED_ROWS).unsqueeze(1)
    return torch.randn(TRIED_ROWS, width, generator=torch.Generator().manual_seed(0)) * spread


def _attention_trial(layer: Layer, told: list[dict[str, Any]]) -> Trial:  # Any: as in _attention
    angles = _rows(layer.head_dim // 2).repeat(1, 2).unsqueeze(0)
    return {
        "hidden_states": _rows(layer.q_proj.in_features).unsqueeze(0),
        "position_embeddings": (angles.cos(), angles.sin()),
        "attention_mask": None,
        "layout": Layout((TRIED_ROWS - 2, 2), told=told),
    }


@torch.inference_mode()
def _agree(layer: Layer, kind: Kind, args: tuple[Tensor, ...], named: Trial) -> bool:
    """Whether the layer and the other class give the same numbers."""
    if "layout" in named:  # the options are recorded by now; from here on both only compute
        named = {**named, "layout": Layout(named["layout"].lengths)}
    try:
        wanted, got = (one.forward(layer, *args, **named) for one in (type(layer), kind))
    except Exception:  # noqa: BLE001  a layer with parts like theirs that takes something else
        return False
    if isinstance(wanted, tuple):
        if len(wanted) != 2 or wanted[1] is not None:
            return False
        wanted, got = wanted[0], got[0]
    if got.shape != wanted.shape:
        return False
    # Inputs on the edge between two integers may round either way, which changes all outputs of their row.
    close = CLOSE_IN_INTEGERS if any(isinstance(part, Int8) for part in layer.modules()) else CLOSE
    return bool(((got - wanted).abs() <= close * wanted.abs().amax(-1, keepdim=True)).all())
