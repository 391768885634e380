"""MiSS: trained by PEFT, computed as a low-rank product whose first matrix sums blocks of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config
from llmos.nn.adapters.methods.low_rank import Factors, read_factors, refuse, targets_of
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert
from llmos.nn.load import Loaded

SUFFIXES = (".miss_block",)


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    from peft import MissConfig  # imported late: only training needs it

    config = MissConfig(r=values["rank"], miss_dropout=values["dropout"], target_modules=targets_of(values))
    return PeftTuned(insert(loaded.backbone, config, seed))


def check(config: Config, name: str) -> None:
    refuse(config, name)
    if config.get("init_weights") == "bat":
        raise BadInput(
            f"{name} is MiSS of kind bat, whose change depends on the base's weights. Train it without",
            unsupported=["init_weights"],
            value="bat",
        )


def method_of(config: Config) -> str:
    return "miss"


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    def factors_of(held: dict[str, Tensor], path: str, shape: tuple[int, int]) -> Factors:
        block = held["miss_block"]
        outputs, inputs = shape
        if config.get("init_weights") == "mini":
            block = block.repeat(1, outputs // block.shape[1])
        places = torch.arange(inputs)
        down = torch.zeros(len(block), inputs)
        down[places % len(block), places] = 1.0
        return block.T, down

    return read_factors(tensors, config, backbone, name, SUFFIXES, factors_of)
