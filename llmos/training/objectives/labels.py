"""The objective of the labels family: which of the labels a text has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmos.abi.method import MethodSpec
from llmos.abi.recipe import Recipe
from llmos.data.row import LabelRow
from llmos.tasks import Rendered, Settings
from llmos.training.objectives.objective import IGNORED, Defaults, Loss, Units
from llmos.training.objectives.objective import render_inputs as render

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LabelTarget", "defaults", "loss_of", "render", "targets_of", "units_of"]

MANY_LABELS = 20


@dataclass(frozen=True, slots=True)
class LabelTarget:
    """The indices of the text's labels: one, or any number for multi-label tasks."""

    labels: list[int]


def targets_of(rows: Sequence[LabelRow], rendered: Sequence[Rendered], settings: Settings) -> list[LabelTarget]:
    index = {label: i for i, label in enumerate(settings.labels)}
    return [
        LabelTarget(
            [index[label] for label in row.labels if label in index]
            if row.is_multi
            else [index.get(row.labels[0], IGNORED)]
        )
        for row in rows
    ]


def units_of(rendered: Rendered) -> Units:
    """The text itself."""
    return Units((0,), 1)


def loss_of(recipe: Recipe, labels: int, weights: Tensor | None, head: object) -> Loss:
    from llmos.training.losses import LabelLoss, MultiLabelLoss  # imports torch, which reading rows does not need

    if recipe.options.get("multi_label", False):
        return MultiLabelLoss(recipe.label_smoothing, labels)
    return LabelLoss(recipe.label_smoothing, weights)


def defaults(task: str, method: MethodSpec, labels: int) -> Defaults:
    """Few labels need a low learning rate; many need a high one and more epochs."""
    if method.keeps_base:
        return Defaults(8, 2e-3 * method.rate, 2) if labels >= MANY_LABELS else Defaults(3, 1e-3 * method.rate, 2)
    return Defaults(6, 3e-4, 10) if labels >= MANY_LABELS else Defaults(4, 1e-4, 10)
