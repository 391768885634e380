"""LoKr: trained by PEFT, computed by its factors: their Kronecker product is never made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config, check_finite, is_mixable, layer_at, layers_of, shape_of
from llmos.nn.adapters.changes import Change, Kronecker
from llmos.nn.adapters.methods.low_rank import Factors, refuse, targets_of
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert
from llmos.nn.load import Loaded

SUFFIXES = (".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b")


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    from peft import LoKrConfig  # imported late: only training needs it

    config = LoKrConfig(
        r=values["rank"], alpha=values["alpha"], decompose_factor=values["factor"], target_modules=targets_of(values)
    )
    return PeftTuned(insert(loaded.backbone, config, seed))


def check(config: Config, name: str) -> None:
    refuse(config, name, "rank_pattern", "alpha_pattern")


def method_of(config: Config) -> str:
    return "lokr"


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    layers = layers_of(tensors, config, backbone, SUFFIXES, name)
    scale = config["alpha"] / config["r"]
    changes: list[Change] = []
    for path, held in layers.items():
        layer, weight = layer_at(backbone, path, name)
        check_finite(((f"{path}{suffix}", x) for suffix, x in held.items()), name)
        first, second = _factors(held, ".lokr_w1"), _factors(held, ".lokr_w2")
        if first is None or second is None or not _fits(first, second, shape_of(layer, weight)):
            raise BadInput(
                f"{name} has factors for {path} that are not whole or do not fit the base's {tuple(weight.shape)}. It "
                "was trained for another one",
                layer=path,
                reason="shapes",
            )
        whole = first[0].float() @ first[1].float() * scale
        parts = (x.to(weight.device, weight.dtype).contiguous() for x in (whole, *second))
        changes.append(Kronecker(layer, *parts))
    return Adapter(tuple(changes), is_mixable=is_mixable(layers))


def _factors(held: Mapping[str, Tensor], key: str) -> Factors | None:
    """A factor as two matrices: as it was trained, or with a unit matrix; None if it is not whole."""
    if key in held:
        return held[key], torch.eye(held[key].shape[-1])
    pair = held.get(f"{key}_a"), held.get(f"{key}_b")
    if pair[0] is None or pair[1] is None or pair[0].shape[-1] != pair[1].shape[0]:
        return None
    return pair[0], pair[1]


def _fits(first: Factors, second: Factors, shape: tuple[int, int]) -> bool:
    outputs, inputs = first[0].shape[0] * second[0].shape[0], first[1].shape[-1] * second[1].shape[-1]
    return (outputs, inputs) == shape
