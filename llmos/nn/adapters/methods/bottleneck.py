"""Bottleneck adapters (Houlsby, Pfeiffer): small networks behind layers. PEFT has none, so files are ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec
from llmos.abi.method import method_of as spec_of
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import (
    BASE_DIGEST,
    CONFIG,
    PREFIX,
    WEIGHTS,
    Config,
    check_finite,
    is_mixable,
    layer_at,
    layers_of,
    shape_of,
)
from llmos.nn.adapters.changes import Bottleneck, Change
from llmos.nn.adapters.places import ATTENTION, FEED_FORWARD, paths_of
from llmos.nn.adapters.tuned import Tuned
from llmos.nn.load import Loaded

PLACES = {"houlsby": (ATTENTION, FEED_FORWARD), "pfeiffer": (FEED_FORWARD,)}
SUFFIXES = (".down.weight", ".down.bias", ".up.weight", ".up.bias")
START_STD = 1e-2


class BottleneckTuned(Tuned):
    """The small networks by the path of the layer that each stands behind."""

    def __init__(self, backbone: nn.Module, networks: Mapping[str, nn.ModuleDict], spec: MethodSpec, activation: str):
        self.networks = dict(networks)
        self.module = nn.ModuleList(networks.values())
        self.spec, self.activation = spec, activation
        self.adapter = Adapter(
            tuple(
                Bottleneck(backbone.get_submodule(path), one["down"], one["up"], activation)  # type: ignore[arg-type]  # Linears
                for path, one in networks.items()
            ),
            is_mixable=is_mixable(networks),
        )

    def save(self, folder: Path, base_digest: str | None = None, loaded: Loaded | None = None) -> None:
        kept = {
            f"{PREFIX}{path}.{name}": x.detach().float().cpu().contiguous()
            for path, one in self.networks.items()
            for name, x in one.named_parameters()
        }
        save_file(kept, folder / WEIGHTS, {BASE_DIGEST: base_digest} if base_digest else {"format": "pt"})
        config = {"peft_type": self.spec.peft_type, "kind": self.spec.name, "activation": self.activation}
        if loaded is not None and loaded.causal is not None:
            config["task_type"] = "CAUSAL_LM" if loaded.reader is None else "SEQ_2_SEQ_LM"
        (folder / CONFIG).write_text(json.dumps(config, indent=2))


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    backbone = loaded.backbone
    networks: dict[str, nn.ModuleDict] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path in paths_of(backbone, *PLACES[spec.name]):
            layer, weight = layer_at(backbone, path, spec.name)
            outputs, _ = shape_of(layer, weight)
            down, up = nn.Linear(outputs, values["width"]), nn.Linear(values["width"], outputs)
            nn.init.normal_(down.weight, std=START_STD)
            for tensor in (down.bias, up.weight, up.bias):
                nn.init.zeros_(tensor)
            networks[path] = nn.ModuleDict({"down": down, "up": up}).to(weight.device)
    return BottleneckTuned(backbone, networks, spec, values["activation"])


def check(config: Config, name: str) -> None:
    if config.get("kind") not in PLACES or not isinstance(config.get("activation"), str):
        raise BadInput(
            f"{CONFIG} of {name} lacks its kind ({' or '.join(PLACES)}) or its activation. Save it again",
            unsupported=["kind"],
            value=str(config.get("kind")),
        )
    spec_of(config["kind"]).values({"activation": config["activation"]})


def method_of(config: Config) -> str:
    return str(config["kind"])


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    layers = layers_of(tensors, config, backbone, SUFFIXES, name)
    changes: list[Change] = []
    for path, held in layers.items():
        layer, weight = layer_at(backbone, path, name)
        check_finite(((f"{path}{suffix}", x) for suffix, x in held.items()), name)
        outputs, _ = shape_of(layer, weight)
        width = len(held[".down.bias"]) if len(held) == len(SUFFIXES) else 0
        shapes = [(width, outputs), (width,), (outputs, width), (outputs,)]
        if not width or [tuple(held[suffix].shape) for suffix in SUFFIXES] != shapes:
            raise BadInput(
                f"{name} has a small network behind {path} that is not whole or does not fit its {outputs} outputs. It "
                "was trained for another base",
                reason="shapes",
            )
        moved = {suffix: x.to(weight.device, weight.dtype) for suffix, x in held.items()}
        down, up = (_linear(moved[f".{part}.weight"], moved[f".{part}.bias"]) for part in ("down", "up"))
        changes.append(Bottleneck(layer, down, up, config["activation"]))
    return Adapter(tuple(changes), is_mixable=is_mixable(layers))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight, made.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
    return made
