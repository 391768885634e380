"""Reads an adapter folder in PEFT's format, or refuses it with the reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from llmos.abi.error import BadInput, Corrupt, UnsafeWeights
from llmos.nn.adapters.adapter import Adapter, Change

Config = dict[str, Any]  # Any: peft's file, read by key

WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
CONFIG = "adapter_config.json"
BASE_DIGEST = "base_digest"  # the key in the metadata of the weights that we write
PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
UNKNOWN = (  # PEFT settings that add something else than `(x @ A) @ B`, or add it elsewhere
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "ensure_weight_tying",
)
REBASING = ("pissa", "corda", "olora", "loftq", "lora_ga")  # initializations that also change the base's weights
HEADS = ("classifier", "score")  # PEFT's names of task heads saved beside an adapter
UNREAD = ("pooler.",)  # base layers that no task reads, so a change of them has no effect


def load_adapter(folder: Path, backbone: nn.Module, name: str = "") -> Adapter:
    """Load the adapter in this folder for this backbone; BadInput if its kind is not supported or it does not fit."""
    name = name or folder.name
    config = read_config(folder, name)
    return adapter_of(read_tensors(folder, name), config, backbone, name)


def read_config(folder: Path, name: str) -> Config:
    """Read the adapter's settings; BadInput if its kind adds more than `(x @ A) @ B`."""
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
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise BadInput(
            f"{name} is an adapter of type {kind!r}; only LORA is served. Train one with LoRA",
            unsupported=["peft_type"],
            value=str(kind),
        )
    _check_kind(config, name)
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
    saved = config.get("modules_to_save") or ()
    layers: dict[str, dict[str, Tensor]] = {}
    for key, weight in tensors.items():
        path = key.removeprefix(PREFIX)
        if any(path.startswith(f"{head}.") for head in saved if head in HEADS):
            continue
        suffix = next((suffix for suffix in (DOWN, UP) if path.endswith(suffix)), None)
        if suffix is None:
            raise BadInput(
                f"{name} has {path}, which is no LoRA weight. An adapter may have lora_A and lora_B of layers, and "
                "a task head. Train it without the rest",
                tensor=path,
                reason="not_lora",
            )
        layers.setdefault(path.removesuffix(suffix), {})[suffix] = weight
    changes = [
        _change(backbone, layer, pair, config, name)
        for layer, pair in layers.items()
        if not _inside(backbone, layer).startswith(UNREAD)
    ]
    if not changes:
        raise BadInput(
            f"{name} changes no layer of the base: it has no LoRA weights. Train it again", reason="no_weights"
        )
    return Adapter(tuple(changes), is_mixable=not any(".experts." in layer for layer in layers))


def scale_of(layer: str, rank: int, config: Config) -> float:
    """The scale of the adapter's product at this layer, by PEFT's rules."""
    patterns = config.get("alpha_pattern") or {}
    alpha = next((value for key, value in patterns.items() if _matches(key, layer)), config.get("lora_alpha"))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise BadInput(
            f"{CONFIG} says lora_alpha {alpha!r}, which is not a number. Correct it",
            setting="lora_alpha",
            value=str(alpha),
        )
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def check_finite(weights: Iterable[tuple[str, Tensor]], name: str) -> None:
    """Raise BadInput that names the first weight with a NaN or an infinity."""
    for key, weight in weights:
        if not bool(torch.isfinite(weight.sum(dtype=torch.float32))) and not bool(torch.isfinite(weight).all()):
            raise BadInput(
                f"{name} has numbers in {key} that are not finite (NaN or infinite). Train it again",
                tensor=key,
                reason="not_finite",
            )


def _check_kind(config: Config, name: str) -> None:
    if unknown := [word for word in UNKNOWN if config.get(word)]:
        raise BadInput(
            f"{name} uses {', '.join(unknown)}, which serving does not support. Train it without", unsupported=unknown
        )
    if config.get("bias", "none") != "none":
        raise BadInput(
            f"{name} also trains biases ({config['bias']}), which the base cannot share. Use bias none",
            unsupported=["bias"],
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(REBASING):
        raise BadInput(
            f"{name} began with {start}, which changes the base's own weights too, and those are shared. Convert it "
            "to plain LoRA: save_pretrained(..., path_initial_model_for_weight_conversion=...)",
            unsupported=["init_lora_weights"],
        )
    if other := [word for word in config.get("modules_to_save") or () if word not in HEADS]:
        raise BadInput(
            f"{name} has full layers of its own ({', '.join(other)}); only a task head ({' or '.join(HEADS)}) can "
            "stand beside an adapter. Train it without",
            unsupported=["modules_to_save"],
        )


def _change(backbone: nn.Module, path: str, pair: dict[str, Tensor], config: Config, name: str) -> Change:
    layer = _find(backbone, path)
    weight = getattr(layer, "weight", None)
    if layer is None or not isinstance(weight, Tensor):
        raise BadInput(f"{name} changes {path}, which is not in this base. It was trained for another one", layer=path)
    if len(pair) != 2 or any(x.ndim != 2 or not x.is_floating_point() for x in pair.values()):
        raise BadInput(f"{name} has no pair of matrices lora_A and lora_B for {path}. Save it again", reason="no_pair")
    down, up = pair[DOWN], pair[UP]
    shape = tuple(weight.shape) if isinstance(layer, nn.Linear) else tuple(weight.shape)[::-1]
    if down.shape[0] != up.shape[1] or not down.shape[0] or shape != (up.shape[0], down.shape[1]):
        raise BadInput(
            f"{name} has shapes {tuple(down.shape)} and {tuple(up.shape)} for {path}, which do not fit the base's "
            f"{tuple(weight.shape)}. It was trained for another one",
            reason="shapes",
        )
    _check_rank(path, down.shape[0], config, name)
    check_finite(((f"{path}{suffix}", x) for suffix, x in pair.items()), name)
    down, up = (x.to(weight.device, weight.dtype) for x in (down, up))
    return Change(layer, down.T, up.T, scale_of(path, down.shape[0], config))


def _check_rank(layer: str, rank: int, config: Config, name: str) -> None:
    """Raise BadInput if the rank of the weights is not the rank in the settings: one of them is another adapter's."""
    patterns = config.get("rank_pattern") or {}
    said = next((value for key, value in patterns.items() if _matches(key, layer)), config.get("r", rank))
    if said != rank:
        raise BadInput(
            f"{CONFIG} of {name} says rank {said} for {layer}, and its weights have rank {rank}: they were not saved "
            "together. Save the adapter again",
            setting="rank",
            said=said,
            rank=rank,
        )


def _inside(backbone: nn.Module, path: str) -> str:
    """The layer's path within the backbone, also if the adapter was trained on a model that wraps the backbone."""
    return path.removeprefix(f"{getattr(backbone, 'base_model_prefix', '')}.")


def _find(backbone: nn.Module, path: str) -> nn.Module | None:
    for candidate in (path, _inside(backbone, path)):
        try:
            return backbone.get_submodule(candidate)
        except AttributeError:
            continue
    return None


def _matches(key: str, layer: str) -> bool:
    """Whether the key matches the layer's path; as in PEFT, the key is a pattern for the end of the path."""
    try:
        return re.match(rf"(.*\.)?({key})$", layer) is not None
    except re.error as error:
        raise BadInput(
            f"{CONFIG} has the pattern {key!r}, which is no valid one ({error}). Correct it",
            setting="pattern",
            value=str(key),
        ) from error
