"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685): trained by peft, kept as its files, served beside a base."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmos.abi.error import BadInput, UnsafeWeights
from llmos.abi.recipe import Lora

if TYPE_CHECKING:
    from peft import PeftModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
SUFFIXES = (".lora_A.weight", ".lora_B.weight")
UNKNOWN = ("use_dora", "lora_bias", "modules_to_save", "layer_replication", "alora_invocation_tokens", "use_bdlora")


def add_lora(backbone: nn.Module, lora: Lora, seed: int) -> PeftModel:
    """Put a fresh adapter, the only trainable part, into the backbone's layers; it computes as before until trained."""
    from peft import LoraConfig, get_peft_model  # only training needs it

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads names that transformers is about to drop
        torch.manual_seed(seed)
        try:
            return get_peft_model(backbone, config)
        except ValueError as error:  # peft's word for targets that the model does not have
            raise BadInput(f"LoRA cannot be added to {', '.join(lora.targets or ('all-linear',))}: {error}") from error


def save_adapter(model: PeftModel, folder: Path) -> list[Path]:
    """Write the adapter as peft does, less its model card; returns the two files."""
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    kept = {name: x.detach().float().cpu().contiguous() for name, x in weights.items()}
    save_file(kept, folder / WEIGHTS, {"format": "pt"})
    model.peft_config["default"].save_pretrained(folder)
    return [folder / WEIGHTS, folder / CONFIG]


class Change(NamedTuple):
    """What an adapter adds to one layer's output: `(x @ down.T) @ up.T`, its scale in `up`."""

    layer: nn.Module
    down: Tensor
    up: Tensor


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in memory."""

    layers: tuple[Change, ...]

    @property
    def size_bytes(self) -> int:
        return sum(down.nbytes + up.nbytes for _, down, up in self.layers)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within, the base computes with this adapter; its weights are neither changed nor copied."""
        try:
            for layer, down, up in self.layers:
                layer.forward = partial(_adapted, layer, down, up)
            yield
        finally:
            for layer, _, _ in self.layers:
                layer.__dict__.pop("forward", None)


def _adapted(layer: nn.Module, down: Tensor, up: Tensor, x: Tensor) -> Tensor:
    plain: Tensor = type(layer).forward(layer, x)
    return plain + (x @ down.T) @ up.T


def load_adapter(folder: Path, backbone: nn.Module) -> Adapter:
    """The adapter in this folder for this backbone; BadInput if it is of a kind, or for a model, that does not fit."""
    config = read_config(folder)
    layers: dict[str, dict[str, Tensor]] = {}
    for name, weight in load_file(folder / WEIGHTS).items():
        suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
        if suffix is None:
            raise BadInput(f"{folder.name} has {name}, which is no LoRA weight. Save it again with its layers merged")
        layers.setdefault(name.removeprefix(PREFIX).removesuffix(suffix), {})[suffix] = weight
    return Adapter(tuple(_change(backbone, name, pair, config) for name, pair in layers.items()))


def read_config(folder: Path) -> dict[str, Any]:  # Any: peft's file, read by key
    """The adapter's settings; BadInput if it is of a kind that adds more than `(x @ A) @ B`."""
    if not (folder / WEIGHTS).exists():
        if (folder / "adapter_model.bin").exists():
            raise UnsafeWeights(f"{folder.name} has pickled weights. Save the adapter again as safetensors")
        raise BadInput(f"{folder} has no adapter: {WEIGHTS} is not there")
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    if config.get("peft_type") != "LORA":
        raise BadInput(f"{folder.name} is an adapter of type {config.get('peft_type')!r}; only LORA is served")
    if unknown := [name for name in UNKNOWN if config.get(name)]:
        raise BadInput(f"{folder.name} uses {', '.join(unknown)}, which serving does not do. Train it without")
    if config.get("bias", "none") != "none":
        raise BadInput(
            f"{folder.name} also trains biases ({config['bias']}), which the base cannot share. Use bias none"
        )
    return config


def _change(backbone: nn.Module, name: str, pair: dict[str, Tensor], config: dict[str, Any]) -> Change:
    layer = _find(backbone, name)
    weight = getattr(layer, "weight", None)
    if layer is None or len(pair) != len(SUFFIXES) or not isinstance(weight, Tensor):
        raise BadInput(f"The adapter's layer {name} is not in this base. It was trained for another one")
    down, up = (pair[suffix] for suffix in SUFFIXES)
    fits = {(down.shape[1], up.shape[0]), (up.shape[0], down.shape[1])}
    if down.shape[0] != up.shape[1] or tuple(weight.shape) not in fits:
        raise BadInput(
            f"The adapter's layer {name} has shapes {tuple(down.shape)} and {tuple(up.shape)}, which do not fit the "
            f"base's {tuple(weight.shape)}. It was trained for another one"
        )
    up = up.float() * _scale(name, down.shape[0], config)
    return Change(layer, down.to(weight.device, weight.dtype), up.to(weight.device, weight.dtype))


def _find(backbone: nn.Module, name: str) -> nn.Module | None:
    """The layer of this name, also where the adapter was trained on a model that wraps this backbone."""
    prefix = f"{getattr(backbone, 'base_model_prefix', '')}."
    for candidate in (name, name.removeprefix(prefix)):
        try:
            return backbone.get_submodule(candidate)
        except AttributeError:
            continue
    return None


def _scale(name: str, rank: int, config: dict[str, Any]) -> float:
    patterns = config.get("alpha_pattern") or {}
    alpha = next((value for key, value in patterns.items() if f".{name}".endswith(f".{key}")), config["lora_alpha"])
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))
