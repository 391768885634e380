"""What is learned of texts without labels: one file an objective, found by its name (abi/adaptation.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from llmos.abi.adaptation import Adaptation
from llmos.nn.load import Loaded
from llmos.training.candidate import AnyHead, Candidate
from llmos.training.examples import Example
from llmos.training.objectives.objective import Loss

Windows = list[list[int]]  # of one text, or of each text of a pair


class TextLoss(NamedTuple):
    """The summed loss of a text, and how many targets it has."""

    total: float
    targets: int


@dataclass(frozen=True, slots=True)
class Learner:
    """What one objective learns by: the head, whether it must be fitted first, and the loss."""

    head: AnyHead
    is_fresh: bool
    loss: Loss


class AdaptationForm(Protocol):
    """What the file of an objective has."""

    def learner(
        self, wanted: Adaptation, loaded: Loaded, source: str, pooling: str, texts: Sequence[Windows]
    ) -> Learner:
        """The head for this base, whose files are in `source`; BadInput where it cannot learn so."""
        ...

    def examples(
        self, wanted: Adaptation, loaded: Loaded, texts: Sequence[Windows]
    ) -> Sequence[Example[Any]]:  # Any: the objective's own targets
        """What the trainer draws its batches from."""
        ...

    def measure(
        self, wanted: Adaptation, candidate: Candidate, texts: Sequence[Windows], *, rounds: int = 1
    ) -> list[TextLoss]:
        """The loss of each text: the same targets whatever the weights; more `rounds` have more of them."""
        ...


def form_of(objective: str) -> AdaptationForm:
    """The code of this objective."""
    form: AdaptationForm = import_module(f"{__name__}.{objective}")
    return form
