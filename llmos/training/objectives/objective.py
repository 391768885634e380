"""What a family of tasks brings to a training run: targets of its rows, a loss, and settings to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from llmos.abi.recipe import Recipe
from llmos.data.row import Row
from llmos.tasks import Rendered, Settings, TrainingTokenizer
from llmos.tasks import task as task_of

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # the target of a token or text that carries no label of the model's


class Loss(Protocol):
    """A step is computed in micro-batches; each one's sum is divided by the normalizer of the whole step."""

    prefers_later: bool  # of epochs with equal validation metrics the last is kept, not the first

    def normalizer(self, examples: Any) -> float:  # Any: examples of the family's own targets
        """What the examples weigh together: the step's denominator."""
        ...

    def __call__(self, given: Tensor, examples: Any) -> Tensor:  # Any: likewise
        """Of what the candidate gave for these examples: summed, not yet divided by the normalizer."""
        ...


@dataclass(frozen=True, slots=True)
class Defaults:
    """The settings that a run starts from, where its recipe leaves them open."""

    epochs: float
    learning_rate: float
    head_rate_ratio: float
    least_steps: int = 400  # what a head needs to leave its random start, however few the rows


class Objective(Protocol):
    """What a family's file has; rows and targets are of the family's own types, which Any stands for here."""

    def render(self, task: str, rows: Any, tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]:
        """The rows as tokens, in order, as serving renders them."""
        ...

    def targets_of(self, rows: Any, rendered: Sequence[Rendered], settings: Settings) -> Sequence[Any]:
        """What is to be learned of each row. A label that the model does not have gives no target: a mistake later."""
        ...

    def loss_of(self, recipe: Recipe, labels: int, weights: Tensor | None, head: object) -> Loss:
        """The loss that this recipe trains by; `weights` are those of the labels, where they do not count alike."""
        ...

    def defaults(self, task: str, method: str, labels: int) -> Defaults:
        """By method, and by how many labels there are to tell apart."""
        ...


def render_inputs(task: str, rows: Sequence[Row], tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]:
    """The inputs alone: targets of most families are beside the tokens, not among them."""
    return task_of(task).render([row.input for row in rows], tokenizer, settings)
