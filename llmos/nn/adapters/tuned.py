"""What a method trains on a frozen base, while it is trained: its parameters, its forward pass and its files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import BASE_DIGEST, PREFIX, WEIGHTS
from llmos.nn.load import Loaded

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

Config = Any  # Any: a class of peft's, which is imported late


class Tuned:
    """A method in training. A subclass adds trainable parameters to the backbone, or holds them in `module`."""

    module: nn.Module | None = None  # parameters that are not in the backbone
    adapter: Adapter | None = None  # what the base computes with in training, where PEFT's layers do not
    reads_weights = False  # whether a pass reads the frozen weights themselves, beside multiplying by them

    def save(self, folder: Path, base_digest: str | None = None, loaded: Loaded | None = None) -> None:
        """Write what was trained in PEFT's format, with the digest of its base.

        For a generative model, pass `loaded`: names and task type are then written for the whole model, on which PEFT
        loads the adapter.
        """
        raise NotImplementedError

    def add_gradients(self) -> None:
        """Add the gradients of a penalty of the method's own to those of the step, which are complete."""

    def after_step(self, step: int, total: int) -> None:
        """Called after the optimizer's step number `step` of `total`, while the gradients are still there."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold beside parameters and moments."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""


class PeftTuned(Tuned):
    """A method whose layers are PEFT's, inserted into the backbone."""

    def __init__(self, model: PeftModel) -> None:
        self.model = model

    def save(self, folder: Path, base_digest: str | None = None, loaded: Loaded | None = None) -> None:
        from peft import get_peft_model_state_dict

        config = replace(self.model.peft_config["default"])
        weights = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        write_peft(config, weights, folder, base_digest, loaded)


def insert(backbone: nn.Module, config: PeftConfig, seed: int) -> PeftModel:
    """Insert PEFT's layers by this config as the backbone's only trainable part; its outputs do not change yet."""
    from peft import get_peft_model  # imported late: only training needs it

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses names that transformers has deprecated
        torch.manual_seed(seed)
        try:
            return get_peft_model(backbone, config)
        except ValueError as error:  # raised by peft for target layers that the model does not have
            targets = getattr(config, "target_modules", None) or ()
            named = targets if isinstance(targets, str) else ", ".join(sorted(targets))
            raise BadInput(f"{config.peft_type} cannot be added to {named}: {error}") from error


def write_peft(
    config: Config, weights: Mapping[str, Tensor], folder: Path, base_digest: str | None, loaded: Loaded | None
) -> None:
    """Write a config of PEFT's and these weights, named as on the backbone, as PEFT's two files."""
    kept = {name: x.detach().float().cpu().contiguous() for name, x in weights.items()}
    if loaded is not None and loaded.causal is not None:
        config.task_type = "CAUSAL_LM" if loaded.reader is None else "SEQ_2_SEQ_LM"
        if loaded.causal is not loaded.backbone:
            within = f"{PREFIX}{loaded.causal.base_model_prefix}."
            kept = {_inside(name, within): x for name, x in kept.items()}
    # One entry, because safetensors does not keep the order of several; equal weights must give equal bytes.
    save_file(kept, folder / WEIGHTS, {BASE_DIGEST: base_digest} if base_digest else {"format": "pt"})
    config.save_pretrained(folder)


def _inside(name: str, within: str) -> str:
    return within + name.removeprefix(PREFIX) if name.startswith(PREFIX) else name


Add = Callable[[Loaded, Mapping[str, Any], int], Tuned]  # Any: the values of the method's settings
