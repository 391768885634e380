"""LoRA and its kin (rsLoRA, DoRA): trained by PEFT, computed as two thin products."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import (
    CONFIG,
    Config,
    check_finite,
    is_mixable,
    layer_at,
    layers_of,
    matches,
    shape_of,
)
from llmos.nn.adapters.changes import Change, Directed, LowRank
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert
from llmos.nn.load import Loaded

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
MAGNITUDE = ".lora_magnitude_vector"  # of DoRA
UNKNOWN = (  # PEFT settings that add something else than `(x @ A) @ B`, or add it elsewhere
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
FLAGS = {"dora": {"use_dora": True}, "rslora": {"use_rslora": True}}  # of PEFT's config
REBASING = ("pissa", "corda", "olora", "loftq", "lora_ga")  # initializations that also change the base's weights


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    """Insert a fresh adapter into the backbone as its only trainable part."""
    from peft import LoraConfig  # imported late: only training needs it

    config = LoraConfig(
        r=values["rank"],
        lora_alpha=values["alpha"],
        lora_dropout=values["dropout"],
        target_modules=list(values["targets"]) if values["targets"] else "all-linear",
        **FLAGS.get(spec.name, {}),
    )
    tuned = PeftTuned(insert(loaded.backbone, config, seed))
    tuned.reads_weights = bool(config.use_dora)
    return tuned


def method_of(config: Config) -> str:
    return next((name for name, flags in FLAGS.items() if all(config.get(key) for key in flags)), "lora")


def check(config: Config, name: str) -> None:
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


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    layers = layers_of(tensors, config, backbone, (DOWN, UP, MAGNITUDE) if config.get("use_dora") else (DOWN, UP), name)
    changes = tuple(_change(backbone, layer, pair, config, name) for layer, pair in layers.items())
    return Adapter(changes, is_mixable=is_mixable(layers))


def scale_of(layer: str, rank: int, config: Config) -> float:
    """The scale of the adapter's product at this layer, by PEFT's rules."""
    patterns = config.get("alpha_pattern") or {}
    alpha = next((value for key, value in patterns.items() if matches(key, layer)), config.get("lora_alpha"))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise BadInput(
            f"{CONFIG} says lora_alpha {alpha!r}, which is not a number. Correct it",
            setting="lora_alpha",
            value=str(alpha),
        )
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _change(backbone: nn.Module, path: str, pair: dict[str, Tensor], config: Config, name: str) -> Change:
    layer, weight = layer_at(backbone, path, name)
    magnitude = pair.get(MAGNITUDE)
    pair = {suffix: x for suffix, x in pair.items() if suffix != MAGNITUDE}
    if len(pair) != 2 or any(x.ndim != 2 or not x.is_floating_point() for x in pair.values()):
        raise BadInput(f"{name} has no pair of matrices lora_A and lora_B for {path}. Save it again", reason="no_pair")
    down, up = pair[DOWN], pair[UP]
    if down.shape[0] != up.shape[1] or not down.shape[0] or shape_of(layer, weight) != (up.shape[0], down.shape[1]):
        raise BadInput(
            f"{name} has shapes {tuple(down.shape)} and {tuple(up.shape)} for {path}, which do not fit the base's "
            f"{tuple(weight.shape)}. It was trained for another one",
            reason="shapes",
        )
    _check_rank(path, down.shape[0], config, name)
    check_finite(((f"{path}{suffix}", x) for suffix, x in pair.items()), name)
    down, up = (x.to(weight.device, weight.dtype) for x in (down, up))
    scale = scale_of(path, down.shape[0], config)
    if config.get("use_dora"):
        return _direct(layer, weight, (down, up, scale), magnitude, path, name)
    return LowRank(layer, down.T, up.T, scale)


def _direct(
    layer: nn.Module,
    weight: Tensor,
    change: tuple[Tensor, Tensor, float],
    magnitude: Tensor | None,
    path: str,
    name: str,
) -> Change:
    """DoRA's change: the magnitudes by the lengths of the changed weight's rows, which are the base's alone to know."""
    down, up, scale = change
    if not isinstance(layer, nn.Linear) or magnitude is None or magnitude.numel() != len(up):
        raise BadInput(
            f"{name} has no magnitude for each of the {len(up)} outputs of {path}, or it is no linear layer",
            layer=path,
            reason="no_magnitude",
        )
    check_finite([(f"{path}{MAGNITUDE}", magnitude)], name)
    lengths = torch.linalg.vector_norm(weight.float() + scale * (up.float() @ down.float()), dim=1)
    factor = magnitude.flatten().float().to(weight.device) / lengths
    return Directed(layer, down.T, up.T, scale, factor.to(weight.dtype))


def _check_rank(layer: str, rank: int, config: Config, name: str) -> None:
    """Raise BadInput if the rank of the weights is not the rank in the settings: one of them is another adapter's."""
    patterns = config.get("rank_pattern") or {}
    said = next((value for key, value in patterns.items() if matches(key, layer)), config.get("r", rank))
    if said != rank:
        raise BadInput(
            f"{CONFIG} of {name} says rank {said} for {layer}, and its weights have rank {rank}: they were not saved "
            "together. Save the adapter again",
            setting="rank",
            said=said,
            rank=rank,
        )
