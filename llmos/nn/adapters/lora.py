"""LoRA training: adds a fresh PEFT adapter to a backbone, and saves it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import nn

from llmos.abi.error import BadInput
from llmos.abi.recipe import Lora
from llmos.nn.adapters.adapter_file import BASE_DIGEST, PREFIX, WEIGHTS
from llmos.nn.load import Loaded

if TYPE_CHECKING:
    from peft import PeftModel


def add_lora(backbone: nn.Module, lora: Lora, seed: int) -> PeftModel:
    """Insert a fresh LoRA adapter into the backbone as its only trainable part; outputs do not change until it is
    trained."""
    from peft import LoraConfig, get_peft_model  # imported late: only training needs it

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses names that transformers has deprecated
        torch.manual_seed(seed)
        try:
            return get_peft_model(backbone, config)
        except ValueError as error:  # raised by peft for target layers that the model does not have
            raise BadInput(f"LoRA cannot be added to {', '.join(lora.targets or ('all-linear',))}: {error}") from error


def save_adapter(model: PeftModel, folder: Path, base_digest: str | None = None, loaded: Loaded | None = None) -> None:
    """Write the adapter in PEFT's format, without a model card, with the digest of its base.

    For a generative model, pass `loaded`: only its backbone was trained, but names and task type are written for the
    whole model, because PEFT loads the adapter on that.
    """
    from peft import get_peft_model_state_dict

    config = replace(model.peft_config["default"])
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    kept = {name: x.detach().float().cpu().contiguous() for name, x in weights.items()}
    if loaded is not None and loaded.causal is not None:
        config.task_type = "CAUSAL_LM" if loaded.reader is None else "SEQ_2_SEQ_LM"
        if loaded.causal is not loaded.backbone:
            within = f"{PREFIX}{loaded.causal.base_model_prefix}."
            kept = {within + name.removeprefix(PREFIX): x for name, x in kept.items()}
    # One entry, because safetensors does not keep the order of several; equal weights must give equal bytes.
    save_file(kept, folder / WEIGHTS, {BASE_DIGEST: base_digest} if base_digest else {"format": "pt"})
    config.save_pretrained(folder)
