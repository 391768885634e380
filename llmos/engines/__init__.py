"""Engines: the interface that every driver implements. A driver runs in a child process."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from llmos.abi.call import Call, Chunk
from llmos.abi.error import BadInput
from llmos.abi.frame import ModelPath
from llmos.engines.intake import Intake, whole
from llmos.engines.tokenization import ModelTokenizer


class Engine(Protocol):
    """The interface of a driver: one base on one device, any number of models on it, calls computed in steps.

    A driver is a subclass: what has a body here is its own unless it says otherwise.
    """

    uses_resident: bool = False  # it loads the base's resident form, which exists before `load`

    def load(self, base: ModelPath, device: str, dtype: str, threads: int) -> int:
        """Load the base; returns the bytes of its weights."""
        ...

    def attach(self, model: ModelPath) -> None:
        """Make a model on this base available under its `name:version`. The base itself is available after `load`."""
        ...

    def detach(self, model: str) -> None:
        """Remove a model; an unknown one is ignored."""
        ...

    def take_in(self, call: Call) -> Intake:
        """Check, tokenize and compile a call step by step; the function returned at the end adds the call.

        A step raises BadInput, TooLong or ModelNotFound for a call that cannot be answered. The first step and the
        returned function must run in the engine's thread; the other steps may run in another.
        """
        ...

    def tokenizer_of(self, model: str) -> ModelTokenizer:
        """The tokenizer by which this model reads; ModelNotFound, or BadInput for a model that has none."""
        ...

    def add(self, call: Call) -> None:
        """Take a call in at once."""
        whole(self.take_in(call))()

    def cancel(self, call_id: int) -> None:
        """Drop a call; an unknown or finished one is ignored."""
        ...

    def step(self) -> list[Chunk]:
        """Compute one batch and return the chunks it finished. It never raises for the fault of one call."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether no call is in progress.

        It is false after the engine's server has died, so that `step` can report that.
        """
        ...

    @property
    def figures(self) -> dict[str, float]:
        """The engine's figures for whoever watches the process; may be empty."""
        return {}

    @property
    def progress(self) -> dict[int, float]:
        """The finished share of each large call in progress, from 0 to 1."""
        return {}

    def close(self) -> None:
        """Release everything that would outlive this process. The engine cannot be used afterwards."""
        return


DRIVERS = {
    "null": "llmos.engines.null:NullEngine",
    "pytorch": "llmos.engines.pytorch:PyTorchEngine",
    "llamacpp": "llmos.engines.llamacpp:LlamaCppEngine",
    "onnx": "llmos.engines.onnx:OnnxEngine",
    "vllm": "llmos.engines.vllm:VllmEngine",
}


def driver(name: str, token_budget: int = 8192, kv_bytes: int = 1 << 30, command: str = "vllm") -> Engine:
    """A new engine of this kind with this token budget per step; BadInput that lists the known kinds.

    `kv_bytes` is the largest size of the KV cache; memory is allocated as needed. `command` starts the server of an
    engine that has one.
    """
    if name not in DRIVERS:
        raise BadInput(f"No engine {name!r}. There are: {', '.join(DRIVERS)}")
    module, _, kind = DRIVERS[name].partition(":")
    more = {"command": command} if name == "vllm" else {}
    engine: Engine = getattr(import_module(module), kind)(token_budget, kv_bytes, **more)
    return engine
