"""LoRA in training beside other adapters on one base: begun by PEFT, taken out of the base, and saved in its format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.method import MethodSpec, can_group
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import PREFIX, is_mixable, shape_of
from llmos.nn.adapters.grouped import TrainedLowRank, adapter_of
from llmos.nn.adapters.methods import tuner_of
from llmos.nn.adapters.tuned import Config, PeftTuned, Tuned, write_peft
from llmos.nn.load import Loaded

NAME = "default"  # of the adapter that PEFT inserts


class GroupedWeights(nn.Module):
    """The weights of all layers of an adapter as one tensor, [1, n]."""

    def __init__(self, flat: Tensor) -> None:
        super().__init__()
        self.flat = nn.Parameter(flat)


class GroupedTuned(Tuned):
    """An adapter in training whose layers are not in the base: others can train on the same base at once."""

    def __init__(self, flat: Tensor, layers: Mapping[str, nn.Module], rank: int, scale: float, config: Config) -> None:
        self.module: GroupedWeights = GroupedWeights(flat)
        self.paths, self.config = tuple(layers), config
        shapes = [(layer, *_widths(layer)) for layer in layers.values()]
        self.adapter: Adapter = adapter_of(self.module.flat, shapes, rank, scale, is_mixable=is_mixable(layers))

    def save(self, folder: Path, base_digest: str | None = None, loaded: Loaded | None = None) -> None:
        weights: dict[str, Tensor] = {}
        for path, change in zip(self.paths, self.adapter.layers, strict=True):
            assert isinstance(change, TrainedLowRank)
            down, up = change.tensors
            weights |= {f"{PREFIX}{path}.lora_A.weight": down, f"{PREFIX}{path}.lora_B.weight": up}
        write_peft(replace(self.config), weights, folder, base_digest, loaded)


def begin_grouped(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> GroupedTuned:
    """A fresh adapter with the weights that PEFT begins with; the base stays as it was."""
    assert can_group(spec.name, values), f"{spec.name} cannot be trained with others"
    tuned = tuner_of(spec).add(loaded, spec, values, seed)
    assert isinstance(tuned, PeftTuned)
    config = tuned.model.peft_config[NAME]
    found = {path: layer for path, layer in loaded.backbone.named_modules() if hasattr(layer, "lora_A")}
    parts: list[Tensor] = []
    for layer in found.values():
        inner: Any = layer  # Any: PEFT's layer, whose matrices are modules by adapter
        parts += inner.lora_A[NAME].weight.detach().flatten(), inner.lora_B[NAME].weight.detach().flatten()
    tuned.model.unload()
    rank = int(config.r)
    scale = config.lora_alpha / (math.sqrt(rank) if config.use_rslora else rank)
    layers = {path: loaded.backbone.get_submodule(path) for path in found}
    return GroupedTuned(torch.cat(parts).unsqueeze(0), layers, rank, scale, config)


def _widths(layer: nn.Module) -> tuple[int, int]:
    """Inputs and outputs."""
    assert isinstance(layer.weight, Tensor)
    outputs, inputs = shape_of(layer, layer.weight)
    return inputs, outputs
