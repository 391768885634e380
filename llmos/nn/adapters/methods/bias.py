"""Biases alone: trained by PEFT (its BEFT), computed as a bias added to a layer's output."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config, check_finite, is_mixable, layer_at, layers_of, shape_of
from llmos.nn.adapters.changes import AddedBias, Change
from llmos.nn.adapters.methods.low_rank import targets_of
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert
from llmos.nn.load import Loaded

SUFFIX = ".beft_bias"


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    from peft import BeftConfig  # imported late: only training needs it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected that the base layer has no bias")  # nothing is merged
        return PeftTuned(insert(loaded.backbone, BeftConfig(target_modules=targets_of(values)), seed))


def check(config: Config, name: str) -> None:
    """Any can be computed."""


def method_of(config: Config) -> str:
    return "bitfit"


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    layers = layers_of(tensors, config, backbone, (SUFFIX,), name)
    changes: list[Change] = []
    for path, held in layers.items():
        layer, weight = layer_at(backbone, path, name)
        check_finite(((f"{path}{SUFFIX}", x) for x in held.values()), name)
        bias = held[SUFFIX].flatten().to(weight.device, weight.dtype)
        if len(bias) != shape_of(layer, weight)[0]:
            raise BadInput(
                f"{name} has {len(bias)} biases for {path}, and the base's weight is {tuple(weight.shape)}. It was "
                "trained for another one",
                reason="shapes",
            )
        changes.append(AddedBias(layer, bias))
    return Adapter(tuple(changes), is_mixable=is_mixable(layers))
