"""Changes of a weight in another form than LoRA's, as two thin matrices of the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config, check_finite, is_mixable, layer_at, layers_of, shape_of
from llmos.nn.adapters.changes import LowRank

Factors = tuple[Tensor, Tensor]  # the change of a weight [out, in] as up [out, rank] and down [rank, in]


def targets_of(values: Mapping[str, Any]) -> list[str] | str:  # Any: values of settings
    """PEFT's `target_modules`."""
    return list(values["targets"]) if values.get("targets") else "all-linear"


def fewest(factors: Factors) -> Factors:
    """Factors of the rank that the weight can have at most, with the same product; theirs may be more."""
    up, down = factors
    most = min(up.shape[0], down.shape[1])
    if up.shape[1] <= most:
        return factors
    left, sizes, right = torch.linalg.svd(up @ down, full_matrices=False)
    return left * sizes, right


def read_factors(
    tensors: Mapping[str, Tensor],
    config: Config,
    backbone: nn.Module,
    name: str,
    suffixes: tuple[str, ...],
    factors_of: Any,  # Any: a function of a layer's tensors by suffix, its path and its shape, to Factors
) -> Adapter:
    """The adapter whose layers change by these factors."""
    layers = layers_of(tensors, config, backbone, suffixes, name)
    changes = []
    for path, held in layers.items():
        layer, weight = layer_at(backbone, path, name)
        check_finite(((f"{path}{suffix}", x) for suffix, x in held.items()), name)
        shape = shape_of(layer, weight)
        try:
            up, down = factors_of({key.strip("."): x.float() for key, x in held.items()}, path, shape)
        except (KeyError, RuntimeError) as error:
            raise BadInput(
                f"{name} lacks weights of {path}, or they do not fit each other ({error}). Save it again",
                layer=path,
                reason="no_pair",
            ) from error
        if (up.shape[0], down.shape[1]) != shape:
            raise BadInput(
                f"{name} changes {path} by a weight of {up.shape[0]} times {down.shape[1]}, and the base's is "
                f"{tuple(weight.shape)}. It was trained for another one",
                reason="shapes",
            )
        up, down = (x.to(weight.device, weight.dtype).contiguous() for x in fewest((up, down)))
        changes.append(LowRank(layer, down.T, up.T, 1.0))
    return Adapter(tuple(changes), is_mixable=is_mixable(layers))


def refuse(config: Config, name: str, *settings: str) -> None:
    """Raise BadInput if one of these settings is set, because what it does is not computed here."""
    if found := [key for key in settings if config.get(key)]:
        raise BadInput(
            f"{name} uses {', '.join(found)}, which is not computed here. Train it without", unsupported=found
        )
    if config.get("bias", "none") != "none":
        raise BadInput(
            f"{name} also trains biases ({config['bias']}), which the base cannot share. Use bias none",
            unsupported=["bias"],
        )
