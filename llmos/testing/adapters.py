"""Random adapters in PEFT's format, written without training: each changes what a base computes, and knows nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmos.abi.method import method_of
from llmos.nn.adapters.adapter_file import CONFIG, PREFIX, WEIGHTS
from llmos.nn.adapters.methods import tuner_of
from llmos.nn.adapters.methods.lora import DOWN, UP
from llmos.nn.adapters.tuned import Tuned
from llmos.nn.load import Loaded

Said = Any  # Any: values of peft's settings file


def targets_of(backbone: nn.Module, names: Sequence[str] = ()) -> dict[str, nn.Linear]:
    """The linear layers whose path ends like one of these names, by path; no names: all of them."""
    linear = {path: layer for path, layer in backbone.named_modules() if isinstance(layer, nn.Linear)}
    return {path: layer for path, layer in linear.items() if not names or path.endswith(tuple(names))}


def write(
    folder: Path,
    backbone: nn.Module,
    *,
    rank: int = 4,
    targets: Sequence[str] = (),
    seed: int = 0,
    strength: float = 0.5,
    more: dict[str, Tensor] | None = None,
    **config: Said,
) -> Path:
    """The folder of an adapter of this rank for these layers; `more` weights and other settings as given."""
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    layers = targets_of(backbone, targets)
    for path, layer in layers.items():
        weights[f"{PREFIX}{path}{DOWN}"] = torch.randn(rank, layer.in_features, generator=random) / rank
        weights[f"{PREFIX}{path}{UP}"] = torch.randn(layer.out_features, rank, generator=random) * strength / rank
    save_file(weights | {f"{PREFIX}{name}": x for name, x in (more or {}).items()}, folder / WEIGHTS, {"format": "pt"})
    said: dict[str, Said] = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(layers)}
    (folder / CONFIG).write_text(json.dumps(said | config))
    return folder


def fresh(loaded: Loaded, method: str = "lora", *, seed: int = 0, **values: Said) -> Tuned:
    """A method of these settings added to a base, before any training."""
    spec = method_of(method)
    return tuner_of(spec).add(loaded, spec, spec.values(values), seed)


def write_trained(
    loaded: Loaded, folder: Path, method: str, *, seed: int = 0, strength: float = 0.3, **values: Said
) -> Path:
    """The folder of an adapter of this method whose weights are random, as if it were trained."""
    tuned = fresh(loaded, method, seed=seed, **values)
    parts = [loaded.backbone, *([] if tuned.module is None else [tuned.module])]
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in parts:
            for parameter in part.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=random) * strength)
    folder.mkdir(parents=True, exist_ok=True)
    tuned.save(folder, None, loaded)
    return folder
