"""Base for engines that serve one base alone, without models that attach to it."""

from __future__ import annotations

from llmos.abi.engine import refusal
from llmos.abi.error import BadInput, ModelNotFound
from llmos.abi.frame import ModelPath
from llmos.abi.model import Manifest
from llmos.engines import Engine


class BaseOnly(Engine):
    """Knows the base by its ref, once `load` has set that, and refuses every other model."""

    name: str  # as in abi/engine.py
    ref = ""

    def check_base(self, manifest: Manifest) -> None:
        """BadInput for a base that this engine cannot serve."""
        why = refusal(self.name, manifest)
        if why is not None:
            raise BadInput(why, key="engine", value=self.name, model=manifest.ref)

    def attach(self, model: ModelPath) -> None:
        raise BadInput(
            refusal(self.name, model.manifest) or f"{model.manifest.ref} is no model on this base",
            model=model.manifest.ref,
        )

    def detach(self, model: str) -> None:
        """No effect: the base is the only model, and it stays."""

    def check_model(self, model: str) -> None:
        """ModelNotFound for another model."""
        if model != self.ref:
            raise ModelNotFound(
                f"No model {model!r} is attached here. There is: {self.ref}", name=model, models=[self.ref]
            )
