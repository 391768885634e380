"""How methods train and are read: a file for each kind of PEFT's files, found by a method's declaration."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.abi.method import MethodSpec, method_specs
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.tuned import Tuned
from llmos.nn.load import Loaded

Config = dict[str, Any]  # Any: peft's settings file, read by key
Values = Mapping[str, Any]  # Any: the values of a method's settings


class Tuner(Protocol):
    """What a file of this package offers."""

    def add(self, loaded: Loaded, spec: MethodSpec, values: Values, seed: int) -> Tuned:
        """Add what the method trains to a frozen base, whose outputs do not change until it is trained."""
        ...

    def check(self, config: Config, name: str) -> None:
        """Raise BadInput if an adapter with this config cannot be computed."""
        ...

    def read(self, tensors: Mapping[str, Tensor], config: Config, backbone: nn.Module, name: str) -> Adapter:
        """The adapter that these weights make on this backbone; BadInput if it does not fit."""
        ...

    def method_of(self, config: Config) -> str:
        """The name of the method that an adapter with this config was made by."""
        ...


def tuner_of(spec: MethodSpec) -> Tuner:
    """What trains and reads this method."""
    found: Any = import_module(f"{__name__}.{spec.reads_as}")  # Any: a module that offers what Tuner says
    tuner: Tuner = found
    return tuner


def tuner_for(config: Config, name: str) -> Tuner:
    """What reads an adapter with this config; BadInput if no method here is of its type."""
    kind = config.get("peft_type")
    known = {spec.peft_type: spec for spec in method_specs().values() if spec.peft_type}
    if kind not in known:
        raise BadInput(
            f"{name} is an adapter of type {kind!r}, which is not served. There are: {', '.join(sorted(known))}",
            unsupported=["peft_type"],
            value=str(kind),
            expected=sorted(known),
        )
    return tuner_of(known[kind])
