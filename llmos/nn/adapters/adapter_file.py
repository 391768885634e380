"""Reads an adapter folder in PEFT's format, or refuses it with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from llmos.abi.error import BadInput, Corrupt, UnsafeWeights
from llmos.nn.adapters.adapter import Adapter

Config = dict[str, Any]  # Any: peft's file, read by key

WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
CONFIG = "adapter_config.json"
BASE_DIGEST = "base_digest"  # the key in the metadata of the weights that we write
PREFIX = "base_model.model."
HEADS = ("classifier", "score")  # PEFT's names of task heads saved beside an adapter
UNREAD = ("pooler.",)  # base layers that no task reads, so a change of them has no effect


def load_adapter(folder: Path, backbone: nn.Module, name: str = "") -> Adapter:
    """Load the adapter in this folder for this backbone; BadInput if its kind is not supported or it does not fit."""
    name = name or folder.name
    config = read_config(folder, name)
    return adapter_of(read_tensors(folder, name), config, backbone, name)


def read_config(folder: Path, name: str) -> Config:
    """Read the adapter's settings; BadInput if its kind cannot be computed."""
    if not (folder / WEIGHTS).exists():
        if (folder / PICKLED).exists():
            raise UnsafeWeights(
                f"{name} has pickled weights ({PICKLED}), and loading a pickle runs the code in it. "
                "If you trust it, save the adapter again: save_pretrained writes safetensors",
                path=PICKLED,
            )
        raise BadInput(f"{name} has no adapter: {WEIGHTS} is not there", lacks=WEIGHTS)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{name} has no {CONFIG} that can be read ({error}). Save the adapter again", file=CONFIG
        ) from error
    from llmos.nn.adapters.methods import tuner_for  # its files import this one

    config = config if isinstance(config, dict) else {"peft_type": config}
    tuner_for(config, name).check(config, name)
    check_beside(config, name)
    return config


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Read the adapter's weights by name, memory-mapped; Corrupt if the file cannot be read."""
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
    except SafetensorError as error:
        raise Corrupt(f"{name}/{WEIGHTS} cannot be read: {error}. Bring the adapter in again", file=WEIGHTS) from error


def base_digest(folder: Path) -> str | None:
    """The digest of the base that the adapter was trained on, or None if the file does not say."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        said = (file.metadata() or {}).get(BASE_DIGEST)
    return said if said is None else str(said)


def adapter_of(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    """Build the adapter that these weights make on this backbone. Task head weights beside it are skipped."""
    from llmos.nn.adapters.methods import tuner_for  # as above

    return tuner_for(config, name).read(tensors, config, backbone, name)


def layers_of(
    tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, suffixes: tuple[str, ...], name: str
) -> dict[str, dict[str, Tensor]]:
    """The weights by layer and suffix, without a task head and layers that no task reads.

    BadInput for a tensor with none of these suffixes, or if there are none.
    """
    saved = config.get("modules_to_save") or ()
    kind = str(config.get("peft_type", "")).lower()
    layers: dict[str, dict[str, Tensor]] = {}
    for key, weight in tensors.items():
        path = key.removeprefix(PREFIX)
        if any(path.startswith(f"{head}.") for head in saved if head in HEADS):
            continue
        suffix = next((suffix for suffix in suffixes if path.endswith(suffix)), None)
        if suffix is None:
            raise BadInput(
                f"{name} has {path}, which is no {kind} weight. An adapter of this type may have "
                f"{', '.join(one.removeprefix('.').removesuffix('.weight') for one in suffixes)} of layers, and a task "
                "head. Train it without the rest",
                tensor=path,
                reason=f"not_{kind}",
            )
        if not inside(backbone, path).startswith(UNREAD):
            layers.setdefault(path.removesuffix(suffix), {})[suffix] = weight
    if not layers:
        raise BadInput(
            f"{name} changes no layer of the base: it has no {kind} weights. Train it again", reason="no_weights"
        )
    return layers


def layer_at(backbone: nn.Module, path: str, name: str) -> tuple[nn.Module, Tensor]:
    """The layer at this path and its weight; BadInput if the base has none there."""
    layer = _find(backbone, path)
    weight = getattr(layer, "weight", None)
    if layer is None or not isinstance(weight, Tensor):
        raise BadInput(f"{name} changes {path}, which is not in this base. It was trained for another one", layer=path)
    return layer, weight


def shape_of(layer: nn.Module, weight: Tensor) -> tuple[int, int]:
    """(outputs, inputs) of a layer; GPT-2's has its weight turned."""
    rows, columns = weight.shape
    return (rows, columns) if isinstance(layer, nn.Linear) else (columns, rows)


def is_mixable(layers: Iterable[str]) -> bool:
    """Whether changes of these layers can stand in a mixed row: experts do not see every token in order."""
    return not any(".experts." in layer for layer in layers)


def check_finite(weights: Iterable[tuple[str, Tensor]], name: str) -> None:
    """Raise BadInput that names the first weight with a NaN or an infinity."""
    for key, weight in weights:
        if not bool(torch.isfinite(weight.sum(dtype=torch.float32))) and not bool(torch.isfinite(weight).all()):
            raise BadInput(
                f"{name} has numbers in {key} that are not finite (NaN or infinite). Train it again",
                tensor=key,
                reason="not_finite",
            )


def check_beside(config: Config, name: str) -> None:
    """Raise BadInput if the adapter brings layers of its own beside a task head."""
    if other := [word for word in config.get("modules_to_save") or () if word not in HEADS]:
        raise BadInput(
            f"{name} has full layers of its own ({', '.join(other)}); only a task head ({' or '.join(HEADS)}) can "
            "stand beside an adapter. Train it without",
            unsupported=["modules_to_save"],
        )


def inside(backbone: nn.Module, path: str) -> str:
    """The layer's path within the backbone, also if the adapter was trained on a model that wraps the backbone."""
    return path.removeprefix(f"{getattr(backbone, 'base_model_prefix', '')}.")


def _find(backbone: nn.Module, path: str) -> nn.Module | None:
    for candidate in (path, inside(backbone, path)):
        try:
            return backbone.get_submodule(candidate)
        except AttributeError:
            continue
    return None


def matches(key: str, layer: str) -> bool:
    """Whether the key matches the layer's path; as in PEFT, the key is a pattern for the end of the path."""
    try:
        return re.match(rf"(.*\.)?({key})$", layer) is not None
    except re.error as error:
        raise BadInput(
            f"{CONFIG} has the pattern {key!r}, which is no valid one ({error}). Correct it",
            setting="pattern",
            value=str(key),
        ) from error
