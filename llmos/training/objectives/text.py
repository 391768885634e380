"""The objective of the text family: the next token, at every token of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmos.abi.method import MethodSpec
from llmos.abi.recipe import Recipe
from llmos.data.row import TextRow
from llmos.tasks import Rendered, Settings, TrainingTokenizer, writer
from llmos.training.objectives.objective import Defaults, Loss

if TYPE_CHECKING:
    from torch import Tensor

LEAST_STEPS = 60  # there is no head with a random start


@dataclass(frozen=True, slots=True)
class TextTarget:
    """The answer's tokens. Their positions are in the SFT examples that the row is rendered to."""

    tokens: list[int]


def render(task: str, rows: Sequence[TextRow], tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]:
    """Render each prompt with its answer."""
    teach = writer(task).teach
    return [teach(row.input, row.completion, tokenizer, settings) for row in rows]


def targets_of(rows: Sequence[TextRow], rendered: Sequence[Rendered], settings: Settings) -> list[TextTarget]:
    return [TextTarget([target for lesson in one.context for target in lesson.targets]) for one in rendered]


def loss_of(recipe: Recipe, labels: int, weights: Tensor | None, head: object) -> Loss:
    from llmos.nn.next_token import NextHead  # imports torch, which reading rows does not need
    from llmos.training.losses import NextTokenLoss

    assert isinstance(head, NextHead), f"{recipe.task} trains a language modelling head"
    return NextTokenLoss(head)


def defaults(task: str, method: MethodSpec, labels: int) -> Defaults:
    return Defaults(3, 1.5e-3 * method.rate if method.keeps_base else 1.5e-4, 1, LEAST_STEPS)
