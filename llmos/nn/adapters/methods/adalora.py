"""AdaLoRA: trained by PEFT with its rank allocation, computed as LoRA of the ranks that it kept."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.error import BadSetting
from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config
from llmos.nn.adapters.methods import lora
from llmos.nn.adapters.methods.low_rank import Factors, read_factors, targets_of
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert, write_peft
from llmos.nn.load import Loaded

DOWN, SIZES, UP = ".lora_A", ".lora_E", ".lora_B"
NAME = "default"  # PEFT's name of the adapter
FIRST_SHARE, LAST_SHARE = 0.1, 0.3  # of the steps: before ranks are cut, and after the last cut
AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # of importance, in PEFT's rank allocator
CLOSE_TO_NOTHING = 1e-5  # what PEFT adds to the rank before it divides by it


class AdaLoraTuned(PeftTuned):
    """PEFT's layers and its rank allocator, whose averages are part of a checkpoint."""

    def __init__(self, model: Any, weight: float) -> None:  # Any: a PeftModel, imported late
        super().__init__(model)
        self._tuner = model.base_model
        self._config = model.peft_config[NAME]
        self._weight = weight

    def add_gradients(self) -> None:
        """The penalty of the paper: singular vectors stay orthogonal."""
        if not self._weight:
            return
        pairs = [
            p @ p.T if "lora_A" in name else p.T @ p
            for name, p in self._tuner.named_parameters()
            if "lora_A" in name or "lora_B" in name
        ]
        penalty = torch.stack([torch.linalg.matrix_norm(one - torch.eye(len(one))) for one in pairs]).mean()
        (self._weight * penalty).backward()  # type: ignore[no-untyped-call]  # torch leaves it so

    def after_step(self, step: int, total: int) -> None:
        config, allocator = self._config, self._tuner.rankallocator
        config.total_step = total
        config.tinit, config.tfinal = int(total * FIRST_SHARE), max(1, int(total * LAST_SHARE))
        allocator.set_total_step(total)
        if total - config.tfinal > config.tinit:  # else there is no step to cut in
            self._tuner.update_and_allocate(step)

    def state(self) -> dict[str, Tensor]:
        allocator = self._tuner.rankallocator
        held = {f"{kind}/{name}": x for kind in AVERAGES for name, x in getattr(allocator, kind).items()}
        pattern = self._config.rank_pattern or {}
        return held | {f"kept/{name}": torch.tensor(kept) for name, kept in pattern.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        allocator = self._tuner.rankallocator
        for key, x in state.items():
            kind, _, name = key.partition("/")
            if kind in AVERAGES:
                getattr(allocator, kind)[name] = x.clone()
        kept = {key.removeprefix("kept/"): x.tolist() for key, x in state.items() if key.startswith("kept/")}
        self._config.rank_pattern = kept or None

    def save(self, folder: Path, base_digest: str | None = None, loaded: Loaded | None = None) -> None:
        """The ranks whose singular value is not zero: the weights may be those of an epoch before the last cut."""
        from peft import get_peft_model_state_dict

        model = self._tuner.model
        before = self._config.rank_pattern
        self._config.rank_pattern = {
            name: _in_use(p) for name, p in model.named_parameters() if f"{SIZES}.{NAME}" in f".{name}"
        }
        weights = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        pattern = self._config.rank_pattern  # PEFT has taken the adapter's name out of its keys
        within = ""
        if loaded is not None and loaded.causal is not None and loaded.causal is not loaded.backbone:
            within = f"{loaded.causal.base_model_prefix}."
        config = replace(self._config, rank_pattern={f"{within}{name}": kept for name, kept in pattern.items()})
        self._config.rank_pattern = before
        write_peft(config, weights, folder, base_digest, loaded)


def _in_use(sizes: Tensor) -> list[bool]:
    """Which ranks are in use; the first where none is, because PEFT reads no empty matrices."""
    kept = (sizes.detach().flatten() != 0).tolist()
    return kept if any(kept) else [True, *kept[1:]]


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    from peft import AdaLoraConfig  # imported late: only training needs it

    if values["first_rank"] <= values["rank"]:
        raise BadSetting(
            f"first_rank is {values['first_rank']}; it must be over rank, which is {values['rank']}",
            key="first_rank",
            value=values["first_rank"],
            expected=f"over {values['rank']}",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of its own defaults
        config = AdaLoraConfig(
            init_r=values["first_rank"],
            target_r=values["rank"],
            lora_alpha=values["alpha"],
            lora_dropout=values["dropout"],
            target_modules=targets_of(values),
            total_step=10,  # replaced by the true number at the first step
            orth_reg_weight=values["orthogonality"],
        )
    return AdaLoraTuned(insert(loaded.backbone, config, seed), values["orthogonality"])


def check(config: Config, name: str) -> None:
    lora.check(config, name)


def method_of(config: Config) -> str:
    return "adalora"


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    scale = config["lora_alpha"] / (config["init_r"] + CLOSE_TO_NOTHING)

    def factors_of(held: dict[str, Tensor], path: str, shape: tuple[int, int]) -> Factors:
        sizes = held["lora_E"].flatten() * scale
        kept = sizes != 0
        kept[0] = kept[0] | ~kept.any()
        return held["lora_B"][:, kept] * sizes[kept], held["lora_A"][kept]

    return read_factors(tensors, config, backbone, name, (DOWN, SIZES, UP), factors_of)
