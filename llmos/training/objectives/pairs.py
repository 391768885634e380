"""The objective of the pairs family: the score of two texts, from one logit or from the cosine of two vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmos.abi.method import MethodSpec
from llmos.abi.recipe import Recipe
from llmos.abi.task import spec_of
from llmos.data.row import PairRow
from llmos.tasks import Rendered, Settings
from llmos.training.objectives.objective import Defaults, Loss
from llmos.training.objectives.objective import render_inputs as render

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PairTarget", "defaults", "loss_of", "render", "targets_of"]


@dataclass(frozen=True, slots=True)
class PairTarget:
    """The pair's score; the best is 1."""

    score: float


def targets_of(rows: Sequence[PairRow], rendered: Sequence[Rendered], settings: Settings) -> list[PairTarget]:
    scale = float(settings.options.get("scale", 1.0))
    return [PairTarget(row.score / scale) for row in rows]


def loss_of(recipe: Recipe, labels: int, weights: Tensor | None, head: object) -> Loss:
    from llmos.training.losses import CosineLoss, GradeLoss  # imports torch, which reading rows does not need

    return CosineLoss() if _compares_vectors(recipe.task) else GradeLoss()


def defaults(task: str, method: MethodSpec, labels: int) -> Defaults:
    if method.keeps_base:
        return Defaults(4, 1e-3 * method.rate, 2)
    return Defaults(3, 5e-5 if _compares_vectors(task) else 1e-4, 10)


def _compares_vectors(task: str) -> bool:
    return spec_of(task).head == "pooled"
