"""Norms and gates of a decoder, each as one loop in C: many passes over little memory cost more than their sums.

It knows no architecture: a layer's class is replaced where a trial shows that the loop gives the layer's own numbers.
Outside of inference mode, and for what the loops cannot do, a layer computes as it did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from llmos.nn.compiled import Kernels, kernels

CLOSE = 1e-5
TRIED_ROWS = 6

Kind = type[nn.Module]


def fuse(model: nn.Module) -> int:
    """Replace what can be; returns how many layers that are."""
    loops = kernels()
    if loops is None:
        return 0
    found: dict[Kind, Kind | None] = {}
    for layer in model.modules():
        kind = type(layer)
        if kind not in found:
            found[kind] = _fused(layer, loops)
        if (better := found[kind]) is not None:
            layer.__class__ = better
    return sum(type(layer) in found.values() for layer in model.modules())


def _fused(layer: nn.Module, loops: Kernels) -> Kind | None:
    """The class that computes what this layer does, if there is one."""
    if _is_norm(layer):
        return next((one for offset in (0.0, 1.0) if _agree(layer, one := _norm(type(layer), loops, offset))), None)
    if _has_gate(layer) and _agree(layer, one := _gated(type(layer), loops)):
        return one
    return None


def _is_norm(layer: nn.Module) -> bool:
    weight = getattr(layer, "weight", None)
    return "RMSNorm" in type(layer).__name__ and weight is not None and weight.dim() == 1 and _eps(layer) is not None


def _has_gate(layer: nn.Module) -> bool:
    return all(isinstance(getattr(layer, name, None), nn.Linear) for name in ("gate_proj", "up_proj", "down_proj"))


def _eps(layer: nn.Module) -> float | None:
    found = getattr(layer, "variance_epsilon", None) or getattr(layer, "eps", None)
    return found if isinstance(found, float) else None


def _norm(kind: Kind, loops: Kernels, offset: float) -> Kind:
    """`offset` is added to the weights: some architectures keep them less one."""

    def forward(layer: Any, x: Tensor) -> Tensor:  # Any: a layer of that kind, with its parts
        weight = layer.weight
        if not _is_ours(x) or weight.dtype != torch.float32:
            own: Tensor = kind.forward(layer, x)
            return own
        return loops.norm(x, weight + offset if offset else weight, _eps(layer) or 0.0)

    return _with(kind, forward)


def _gated(kind: Kind, loops: Kernels) -> Kind:
    def forward(layer: Any, x: Tensor) -> Tensor:  # Any: a layer of that kind, with its parts
        if not _is_ours(x):
            own: Tensor = kind.forward(layer, x)
            return own
        out: Tensor = layer.down_proj(loops.gate(layer.gate_proj(x), layer.up_proj(x)))
        return out

    return _with(kind, forward)


def _with(kind: Kind, forward: Callable[..., Tensor]) -> Kind:
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _is_ours(x: Tensor) -> bool:
    return torch.is_inference_mode_enabled() and x.dtype == torch.float32 and x.device.type == "cpu"


@torch.inference_mode()
def _agree(layer: Any, kind: Kind) -> bool:  # Any: as above
    """The layer and the other class give the same numbers, for rows of every size that a layer sees."""
    parameters = [*layer.parameters()]
    if any(parameter.dtype != torch.float32 or parameter.device.type != "cpu" for parameter in parameters):
        return False
    width = layer.gate_proj.in_features if _has_gate(layer) else parameters[0].shape[-1]
    spread = torch.logspace(-3, 2, TRIED_ROWS).unsqueeze(1)
    x = torch.randn(TRIED_ROWS, width, generator=torch.Generator().manual_seed(0)) * spread
    try:
        wanted, got = type(layer).forward(layer, x), kind.forward(layer, x)
    except (TypeError, RuntimeError):  # a layer with a name like theirs that takes something else
        return False
    return bool(((got - wanted).abs() <= CLOSE * wanted.abs().amax(-1, keepdim=True)).all())
