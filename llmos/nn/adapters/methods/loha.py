"""LoHa: trained by PEFT, computed as a low-rank product by the Khatri-Rao product of its factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config
from llmos.nn.adapters.methods.low_rank import Factors, read_factors, refuse, targets_of
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert
from llmos.nn.load import Loaded

SUFFIXES = (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b")


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    from peft import LoHaConfig  # imported late: only training needs it

    config = LoHaConfig(r=values["rank"], alpha=values["alpha"], target_modules=targets_of(values))
    return PeftTuned(insert(loaded.backbone, config, seed))


def check(config: Config, name: str) -> None:
    refuse(config, name, "rank_pattern", "alpha_pattern")


def method_of(config: Config) -> str:
    return "loha"


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    def factors_of(held: dict[str, Tensor], path: str, shape: tuple[int, int]) -> Factors:
        """(A1 B1) * (A2 B2) = (A1 row-wise with A2) (B1 column-wise with B2), of rank r squared."""
        up1, down1, up2, down2 = (held[suffix.strip(".")] for suffix in SUFFIXES)
        up = (up1[:, :, None] * up2[:, None, :]).flatten(1)
        down = (down1[:, None, :] * down2[None, :, :]).flatten(0, 1)
        return up * (config["alpha"] / len(down1)), down

    return read_factors(tensors, config, backbone, name, SUFFIXES, factors_of)
