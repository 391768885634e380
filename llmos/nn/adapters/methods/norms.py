"""LN tuning: trained by PEFT, computed as norms with other weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config, check_finite, is_mixable, layer_at, layers_of
from llmos.nn.adapters.changes import Change, OtherWeights
from llmos.nn.adapters.places import norms_of
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert
from llmos.nn.load import Loaded

WITHIN = ".ln_tuning_layers"
SUFFIXES = (f"{WITHIN}.weight", f"{WITHIN}.bias")


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    from peft import LNTuningConfig  # imported late: only training needs it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unsupported layer type")  # it needs no widths of norms
        return PeftTuned(insert(loaded.backbone, LNTuningConfig(target_modules=norms_of(loaded.backbone)), seed))


def check(config: Config, name: str) -> None:
    """Any can be computed."""


def method_of(config: Config) -> str:
    return "ln"


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    layers = layers_of(tensors, config, backbone, SUFFIXES, name)
    changes: list[Change] = []
    for path, held in layers.items():
        layer, weight = layer_at(backbone, path, name)
        check_finite(((f"{path}{suffix}", x) for suffix, x in held.items()), name)
        if weight.ndim != 1:
            raise BadInput(f"{name} changes {path}, which is no norm. Train it on norms", layer=path, reason="no_norm")
        other = copy.copy(layer)
        other._parameters = dict(layer._parameters)
        for suffix, x in held.items():
            key = suffix.rpartition(".")[2]
            own = other._parameters.get(key)
            if own is None or own.shape != x.shape:
                raise BadInput(
                    f"{name} has {tuple(x.shape)} as the {key} of {path}, which does not fit. It was trained for "
                    "another base",
                    reason="shapes",
                )
            other._parameters[key] = nn.Parameter(x.to(own.device, own.dtype), requires_grad=False)
        changes.append(OtherWeights(layer, other))
    return Adapter(tuple(changes), is_mixable=is_mixable(layers))
