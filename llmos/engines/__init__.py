"""Engines: the interface that every driver implements. A driver runs in a child process."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from llmos.abi.call import Call, Chunk
from llmos.abi.error import BadInput
from llmos.abi.frame import ModelPath
from llmos.engines.intake import Intake


class Engine(Protocol):
    """What a driver promises: one base on one device, any number of models on it, calls computed in steps."""

    uses_resident: bool  # it computes from the base's resident form, which is there before it loads

    def load(self, base: ModelPath, device: str, dtype: str, threads: int) -> int:
        """Load the base; returns the bytes of its weights."""
        ...

    def attach(self, model: ModelPath) -> None:
        """Make a model on this base answerable under its `name:version`; the base itself is from the start."""
        ...

    def detach(self, model: str) -> None:
        """Forget a model; unknown ones are ignored."""
        ...

    def take_in(self, call: Call) -> Intake:
        """Check, tokenize and compile a call step by step; what that returns at last puts it in hand.

        A step raises BadInput, TooLong or ModelNotFound for a call that cannot be answered. The first looks the model
        up and, like what is returned, belongs to the engine's thread; the others may run in another one.
        """
        ...

    def add(self, call: Call) -> None:
        """Take a call in at once."""
        ...

    def cancel(self, call_id: int) -> None:
        """Drop a call; unknown or finished ones are ignored."""
        ...

    def step(self) -> list[Chunk]:
        """Compute one batch of what waits and return what it finished; never raises for one call's fault."""
        ...

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is being generated. An engine whose server has died is not: its step says so."""
        ...

    @property
    def figures(self) -> dict[str, float]:
        """How it is doing, for whoever watches the process; empty if there is nothing to say."""
        ...

    @property
    def progress(self) -> dict[int, float]:
        """How much of each large call in hand is done, from 0 to 1; small ones are soon answered."""
        ...

    def close(self) -> None:
        """End what would outlive this process, and let go of the rest; nothing is asked of it afterwards."""
        ...


DRIVERS = {
    "null": "llmos.engines.null:NullEngine",
    "pytorch": "llmos.engines.pytorch:PyTorchEngine",
    "llamacpp": "llmos.engines.llamacpp:LlamaCppEngine",
    "onnx": "llmos.engines.onnx:OnnxEngine",
    "vllm": "llmos.engines.vllm:VllmEngine",
}


def driver(name: str, token_budget: int = 8192, kv_bytes: int = 1 << 30, command: str = "vllm") -> Engine:
    """A new engine of this kind, for so many tokens in one step; BadInput that lists the others if there is none.

    `kv_bytes` is the largest size of the KV cache; memory is allocated as it is needed.
    `command` starts the server of an engine that has one.
    """
    if name not in DRIVERS:
        raise BadInput(f"No engine {name!r}. There are: {', '.join(DRIVERS)}")
    module, _, kind = DRIVERS[name].partition(":")
    more = {"command": command} if name == "vllm" else {}
    engine: Engine = getattr(import_module(module), kind)(token_budget, kv_bytes, **more)
    return engine
