"""The interface of a family's objective: targets of its rows, a loss, and default settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from llmos.abi.method import MethodSpec
from llmos.abi.recipe import Recipe
from llmos.data.row import Row
from llmos.tasks import Rendered, Settings, TrainingTokenizer
from llmos.tasks import task as task_of

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # the target of a token or text without a label of the model


class Loss(Protocol):
    """A loss over micro-batches; each sum is divided by the normalizer of the whole step."""

    prefers_later: bool  # of epochs with equal validation metrics, keep the last instead of the first

    def normalizer(self, examples: Any) -> float:  # Any: examples of the family's own targets
        """The total weight of the examples: the denominator of a step."""
        ...

    def __call__(self, given: Tensor, examples: Any) -> Tensor:  # Any: likewise
        """The summed loss of these examples' outputs, not yet divided by the normalizer."""
        ...


@dataclass(frozen=True, slots=True)
class Defaults:
    """Default settings for what a recipe leaves open."""

    epochs: float
    learning_rate: float
    head_rate_ratio: float
    least_steps: int = 400  # the steps that a head needs from its random start, with however few rows


@dataclass(frozen=True, slots=True)
class Units:
    """What of an example has a label: the places of these among the model's outputs for it, None if one was cut off,
    and how many outputs there are."""

    places: tuple[int | None, ...]
    outputs: int


class TaughtFamily(Protocol):
    """What the file of a family has besides, whose labels a teacher can teach."""

    def units_of(self, rendered: Rendered) -> Units:
        """The units of an example, in the order of the row."""
        ...


class Objective(Protocol):
    """The parts of a family's objective. Any stands for the family's own row and target types."""

    def render(self, task: str, rows: Any, tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]:
        """Render the rows to tokens, in order, as serving does."""
        ...

    def targets_of(self, rows: Any, rendered: Sequence[Rendered], settings: Settings) -> Sequence[Any]:
        """The target of each row.

        A label that the model does not have gives no target and counts as a mistake in evaluation.
        """
        ...

    def loss_of(self, recipe: Recipe, labels: int, weights: Tensor | None, head: object) -> Loss:
        """The loss of this recipe; `weights` are label weights, or None if all labels count alike."""
        ...

    def defaults(self, task: str, method: MethodSpec, labels: int) -> Defaults:
        """The defaults for this method and number of labels."""
        ...


def render_inputs(task: str, rows: Sequence[Row], tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]:
    """Render the inputs alone, because targets of most families are not among the tokens."""
    return task_of(task).render([row.input for row in rows], tokenizer, settings)
