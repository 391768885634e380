"""The objective of the spans family: where in each window of a passage an answer starts and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmos.abi.method import MethodSpec
from llmos.abi.recipe import Recipe
from llmos.data.row import SpanRow
from llmos.tasks import Rendered, Settings
from llmos.tasks.answer import NOWHERE, place_in
from llmos.training.objectives.objective import Defaults, Loss
from llmos.training.objectives.objective import render_inputs as render

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SpanTarget", "defaults", "loss_of", "render", "targets_of"]


@dataclass(frozen=True, slots=True)
class SpanTarget:
    """The first and the last token of the first answer in every window; NOWHERE for both without an answer."""

    places: list[tuple[int, int]]


def targets_of(rows: Sequence[SpanRow], rendered: Sequence[Rendered], settings: Settings) -> list[SpanTarget]:
    return [SpanTarget(_places(row, one)) for row, one in zip(rows, rendered, strict=True)]


def _places(row: SpanRow, rendered: Rendered) -> list[tuple[int, int]]:
    windows = rendered.context.windows
    if not row.answers:
        return [(NOWHERE, NOWHERE)] * len(windows)
    start, end = row.starts[0], row.starts[0] + len(row.answers[0])
    return [place_in(window, start, end) for window in windows]


def loss_of(recipe: Recipe, labels: int, weights: Tensor | None, head: object) -> Loss:
    from llmos.training.losses import SpanLoss  # imports torch, which reading rows does not need

    return SpanLoss()


def defaults(task: str, method: MethodSpec, labels: int) -> Defaults:
    return Defaults(4, 1e-3 * method.rate, 2) if method.keeps_base else Defaults(3, 1e-4, 10)
