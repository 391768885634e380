"""Prompt tuning, P-tuning and prefix tuning: virtual tokens in PEFT's files, computed by our forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec, method_specs
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config, check_finite
from llmos.nn.adapters.tuned import Tuned, write_peft
from llmos.nn.adapters.virtual import VirtualTokens
from llmos.nn.load import Loaded

KEY = "prompt_embeddings"
PROMPT, NETWORK, PREFIX = "PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"
START_STD = 0.02


class VirtualVectors(nn.Module):
    """The trained table, and the network that makes vectors of it where there is one."""

    def __init__(self, table: Tensor, network: int) -> None:
        super().__init__()
        hidden = table.shape[-1]
        self.table = nn.Parameter(table)
        self.network: nn.Module = nn.Identity()
        if network:
            self.network = nn.Sequential(
                nn.Linear(hidden, network),
                nn.ReLU(),
                nn.Linear(network, network),
                nn.ReLU(),
                nn.Linear(network, hidden),
            ).to(table.device)

    def forward(self) -> Tensor:
        made: Tensor = self.network(self.table)
        return made


class VirtualTuned(Tuned):
    """The vectors of virtual tokens, and the network that makes them where there is one."""

    def __init__(self, loaded: Loaded, spec: MethodSpec, count: int, network: int, table: Tensor) -> None:
        self.spec, self.count, self.network = spec, count, network
        self.sizes = _sizes(loaded.backbone)
        self.vectors = VirtualVectors(table, network)
        self.module = self.vectors
        self.adapter = Adapter((), virtual=self._tokens(loaded.backbone))

    def save(self, folder: Path, base_digest: str | None = None, loaded: Loaded | None = None) -> None:
        from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig

        layers, heads, size = self.sizes
        is_prefix = self.spec.peft_type == PREFIX
        shared: dict[str, Any] = {  # Any: arguments of peft's configs
            "task_type": "FEATURE_EXTRACTION",
            "num_virtual_tokens": self.count,
            "token_dim": heads * size if is_prefix else self.vectors.table.shape[-1],
            "num_transformer_submodules": 1,
            "num_attention_heads": heads,
            "num_layers": layers,
        }
        config: Any = PromptTuningConfig(**shared)  # Any: one of three configs
        if is_prefix:
            config = PrefixTuningConfig(**shared)
        elif self.network:
            config = PromptEncoderConfig(**shared, encoder_hidden_size=self.network)
        write_peft(config, {KEY: self._values().flatten(1)}, folder, base_digest, loaded)

    def _tokens(self, backbone: nn.Module) -> VirtualTokens:
        is_prefix = self.spec.peft_type == PREFIX
        return VirtualTokens(_embedding(backbone), self.count, self._values, is_prefix)

    def _values(self) -> Tensor:
        made: Tensor = self.vectors()
        if self.spec.peft_type != PREFIX:
            return made
        layers, heads, size = self.sizes
        return made.view(self.count, 2 * layers, heads, size)


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    backbone, count = loaded.backbone, values["tokens"]
    _check_base(loaded, spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = _embedding(backbone).weight
        if spec.peft_type == PREFIX:
            layers, heads, size = _sizes(backbone)
            table = torch.randn(count, 2 * layers * heads * size) * START_STD
        else:
            table = words[torch.randint(0, len(words), (count,))].detach().float().clone()  # some words of the base
        return VirtualTuned(loaded, spec, count, values.get("network", 0), table.to(words.device))


def _check_base(loaded: Loaded, spec: MethodSpec) -> None:
    backbone = loaded.backbone
    if loaded.reader is not None:
        raise BadInput(
            f"{spec.name} is not there for an encoder with a decoder. Take another method, such as lora",
            architecture=loaded.config.model_type,
            reason="unknown_places",
        )
    found = {int(layer.layer_idx) for layer in backbone.modules() if getattr(layer, "layer_idx", None) is not None}  # type: ignore[arg-type]  # an int
    if spec.peft_type == PREFIX and len(found) != _sizes(backbone)[0]:
        raise BadInput(
            f"{spec.name} needs attention layers with a number, which a {type(backbone).__name__} has not. Take prompt "
            "or another method",
            architecture=loaded.config.model_type,
            reason="unknown_places",
        )


def check(config: Config, name: str) -> None:
    if config.get("num_transformer_submodules") not in (None, 1):
        raise BadInput(
            f"{name} has virtual tokens for an encoder and a decoder, which is not computed here",
            unsupported=["num_transformer_submodules"],
        )


def method_of(config: Config) -> str:
    return next(spec.name for spec in method_specs().values() if spec.peft_type == config["peft_type"])


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    table = tensors.get(KEY)
    if table is None or len(tensors) != 1 or table.ndim != 2:
        raise BadInput(f"{name} has no {KEY} alone. Save it again", reason="no_weights")
    check_finite(tensors.items(), name)
    embedding = _embedding(backbone)
    layers, heads, size = _sizes(backbone)
    is_prefix = config.get("peft_type") == PREFIX
    wanted = 2 * layers * heads * size if is_prefix else embedding.weight.shape[-1]
    if table.shape[1] != wanted:
        raise BadInput(
            f"{name} has virtual tokens of {table.shape[1]} numbers, and the base takes {wanted}. It was trained for "
            "another one",
            reason="shapes",
        )
    values = table.to(embedding.weight.device, embedding.weight.dtype)
    if is_prefix:
        values = values.view(len(values), 2 * layers, heads, size)
    return Adapter((), virtual=VirtualTokens(embedding, len(values), lambda: values, is_prefix))


def _embedding(backbone: nn.Module) -> nn.Embedding:
    found: nn.Embedding = backbone.get_input_embeddings()  # type: ignore[operator]  # transformers' method
    return found


def _sizes(backbone: nn.Module) -> tuple[int, int, int]:
    """Layers, heads of keys and values, and the size of a head."""
    config: Any = backbone.config  # Any: transformers' config class of this architecture
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return config.num_hidden_layers, getattr(config, "num_key_value_heads", None) or heads, size
