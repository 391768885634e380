"""Base for engines that serve one base through an external generator, without adapters."""

from __future__ import annotations

from llmos.abi.call import Call, Chunk
from llmos.abi.engine import refusal
from llmos.abi.error import BadInput
from llmos.abi.frame import ModelPath
from llmos.engines.external_generation import ExternalGeneration
from llmos.engines.intake import Intake, whole


class BaseOnly:
    """Implements engines.Engine except `load`, which must set `answers`, and `close`: the driver adds both."""

    name: str
    uses_resident = False
    answers: ExternalGeneration | None = None

    def attach(self, model: ModelPath) -> None:
        raise BadInput(
            refusal(self.name, model.manifest) or f"{model.manifest.ref} is no model on this base",
            model=model.manifest.ref,
        )

    def detach(self, model: str) -> None:
        """No effect: the base is the only model, and it stays."""

    def take_in(self, call: Call) -> Intake:
        return self._load_model.take_in(call)

    def add(self, call: Call) -> None:
        whole(self.take_in(call))()

    def cancel(self, call_id: int) -> None:
        self._load_model.cancel(call_id)

    def step(self) -> list[Chunk]:
        return self._load_model.step()

    @property
    def is_idle(self) -> bool:
        return self.answers is None or self.answers.is_idle

    @property
    def figures(self) -> dict[str, float]:
        return {} if self.answers is None else self.answers.figures

    @property
    def progress(self) -> dict[int, float]:
        return {} if self.answers is None else self.answers.progress

    @property
    def _load_model(self) -> ExternalGeneration:
        assert self.answers is not None, "The base is loaded before calls come"
        return self.answers
