"""The objective of the tags family: a tag for every word, learned at its first token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmos.abi.method import MethodSpec
from llmos.abi.recipe import Recipe
from llmos.data.row import TagRow
from llmos.tasks import Rendered, Settings
from llmos.training.objectives.objective import IGNORED, Defaults, Loss, Units
from llmos.training.objectives.objective import render_inputs as render

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TagTarget", "defaults", "loss_of", "render", "targets_of", "units_of"]


@dataclass(frozen=True, slots=True)
class TagTarget:
    """The index of a tag for every token; IGNORED for tokens without a target."""

    labels: list[int]


def targets_of(rows: Sequence[TagRow], rendered: Sequence[Rendered], settings: Settings) -> list[TagTarget]:
    index = {label: i for i, label in enumerate(settings.labels)}
    return [TagTarget(_labels(row, one, index)) for row, one in zip(rows, rendered, strict=True)]


def _labels(row: TagRow, rendered: Rendered, index: dict[str, int]) -> list[int]:
    labels = [IGNORED] * len(rendered.ids)
    for first, tag in zip(rendered.context.firsts, row.tags, strict=True):
        if first is not None:
            labels[first] = index.get(tag, IGNORED)
    return labels


def units_of(rendered: Rendered) -> Units:
    """The words, each at its first token."""
    return Units(tuple(rendered.context.firsts), len(rendered.ids))


def loss_of(recipe: Recipe, labels: int, weights: Tensor | None, head: object) -> Loss:
    from llmos.training.losses import LabelLoss  # imports torch, which reading rows does not need

    return LabelLoss(recipe.label_smoothing, weights)


def defaults(task: str, method: MethodSpec, labels: int) -> Defaults:
    """A high learning rate and few epochs."""
    return Defaults(4, 1.5e-3 * method.rate, 2) if method.keeps_base else Defaults(3, 2e-4, 10)
