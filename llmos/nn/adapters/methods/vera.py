"""VeRA: trained by PEFT, computed with its two shared matrices, which are in memory once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import Config, check_finite, is_mixable, layer_at, layers_of, shape_of
from llmos.nn.adapters.changes import Change, ScaledLowRank
from llmos.nn.adapters.methods.low_rank import refuse, targets_of
from llmos.nn.adapters.tuned import PeftTuned, Tuned, insert
from llmos.nn.load import Loaded

DOWN, UP = "vera_A", "vera_B"
INNER, OUTER = ".vera_lambda_d", ".vera_lambda_b"


def add(loaded: Loaded, spec: MethodSpec, values: Mapping[str, Any], seed: int) -> Tuned:  # Any: values of settings
    from peft import VeraConfig  # imported late: only training needs it

    config = VeraConfig(
        r=values["rank"],
        vera_dropout=values["dropout"],
        projection_prng_key=seed,
        target_modules=targets_of(values),
    )
    return PeftTuned(insert(loaded.backbone, config, seed))


def check(config: Config, name: str) -> None:
    refuse(config, name)
    if not config.get("save_projection", True):
        raise BadInput(
            f"{name} does not bring its two random matrices. Save it again with save_projection=True",
            unsupported=["save_projection"],
        )


def method_of(config: Config) -> str:
    return "vera"


def read(tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
    shared = {key: x for key in (DOWN, UP) for full, x in tensors.items() if key in full}
    if len(shared) != 2:
        raise BadInput(f"{name} lacks {DOWN} or {UP}. Save it again with save_projection=True", reason="no_pair")
    own = {key: x for key, x in tensors.items() if not any(x is one for one in shared.values())}
    layers = layers_of(own, config, backbone, (INNER, OUTER), name)
    check_finite(shared.items(), name)
    moved: dict[str, Tensor] = {}
    changes: list[Change] = []
    for path, held in layers.items():
        layer, weight = layer_at(backbone, path, name)
        outputs, inputs = shape_of(layer, weight)
        check_finite(((f"{path}{suffix}", x) for suffix, x in held.items()), name)
        moved = moved or {key: x.to(weight.device, weight.dtype) for key, x in shared.items()}
        down, up = moved[DOWN], moved[UP]
        fits = len(held) == 2 and len(held[OUTER]) == outputs and len(held[INNER]) == down.shape[0] == up.shape[1]
        if not fits or down.shape[1] < inputs or up.shape[0] < outputs:
            raise BadInput(
                f"{name} has scales for {path} that do not fit the base's {tuple(weight.shape)}. It was trained for "
                "another one",
                reason="shapes",
            )
        inner, outer = (held[suffix].to(weight.device, weight.dtype) for suffix in (INNER, OUTER))
        changes.append(ScaledLowRank(layer, down[:, :inputs].T, up[:outputs].T, inner, outer))
    return Adapter(tuple(changes), is_mixable=is_mixable(layers))
