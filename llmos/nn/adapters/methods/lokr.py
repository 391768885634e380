"""LoKr: trained by PEFT, computed as a low-rank product by the Kronecker products of its factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config
from llmos.nn.adapters.methods.low_rank import Factors, read_factors, refuse, targets_of
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert
from llmos.nn.load import Loaded

SUFFIXES = (".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b")


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    from peft import LoKrConfig  # imported late: only training needs it

    config = LoKrConfig(
        r=values["rank"], alpha=values["alpha"], decompose_factor=values["factor"], target_modules=targets_of(values)
    )
    return PeftTuned(insert(loaded.backbone, config, seed))


def check(config: Config, name: str) -> None:
    refuse(config, name, "rank_pattern", "alpha_pattern")


def method_of(config: Config) -> str:
    return "lokr"


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    scale = config["alpha"] / config["r"]

    def factors_of(held: dict[str, Tensor], path: str, shape: tuple[int, int]) -> Factors:
        """(L1 R1) kron (L2 R2) = (L1 kron L2) (R1 kron R2)."""
        up1, down1 = _parts(held, "lokr_w1")
        up2, down2 = _parts(held, "lokr_w2")
        return torch.kron(up1, up2) * scale, torch.kron(down1, down2)

    return read_factors(tensors, config, backbone, name, SUFFIXES, factors_of)


def _parts(held: Mapping[str, Tensor], key: str) -> Factors:
    """One factor of the product as two matrices: as it was trained, or one of them a unit matrix."""
    if key not in held:
        return held[f"{key}_a"], held[f"{key}_b"]
    whole = held[key]
    rows, columns = whole.shape
    return (whole, torch.eye(columns)) if columns <= rows else (torch.eye(rows), whole)
