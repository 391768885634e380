"""IA3: trained by PEFT, computed as factors of a layer's outputs or inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import (
    Config,
    check_finite,
    inside,
    is_mixable,
    layer_at,
    layers_of,
    matches,
    shape_of,
)
from llmos.nn.adapters.changes import Change, ScaledInput, ScaledOutput
from llmos.nn.adapters.methods.low_rank import refuse
from llmos.nn.adapters.places import FEED_FORWARD, KEYS_VALUES, paths_of
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert
from llmos.nn.load import Loaded

SUFFIX = ".ia3_l"


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    from peft import IA3Config  # imported late: only training needs it

    feed_forward = paths_of(loaded.backbone, FEED_FORWARD)
    targets = [*paths_of(loaded.backbone, KEYS_VALUES), *feed_forward]
    return PeftTuned(insert(loaded.backbone, IA3Config(target_modules=targets, feedforward_modules=feed_forward), seed))


def check(config: Config, name: str) -> None:
    refuse(config, name)


def method_of(config: Config) -> str:
    return "ia3"


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    layers = layers_of(tensors, config, backbone, (SUFFIX,), name)
    forward = config.get("feedforward_modules") or ()
    keys = [forward] if isinstance(forward, str) else list(forward)
    changes: list[Change] = []
    for path, held in layers.items():
        layer, weight = layer_at(backbone, path, name)
        check_finite(((f"{path}{SUFFIX}", x) for x in held.values()), name)
        factor = held[SUFFIX].flatten().to(weight.device, weight.dtype)
        is_forward = any(matches(key, path) or matches(key, inside(backbone, path)) for key in keys)
        outputs, inputs = shape_of(layer, weight)
        if len(factor) != (inputs if is_forward else outputs):
            raise BadInput(
                f"{name} has {len(factor)} factors for {path}, and the base's is {tuple(weight.shape)}. It was trained "
                "for another one",
                reason="shapes",
            )
        changes.append(ScaledInput(layer, factor) if is_forward else ScaledOutput(layer, factor))
    return Adapter(tuple(changes), is_mixable=is_mixable(layers))
