"""The target and the loss of each task: a file for each family of tasks, found by a task's declaration.

Objectives on preferences have a file each too: the `LOSS` of the file that is called like one of `abi/objectives`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from llmos.abi.objective import objective_in
from llmos.abi.recipe import Recipe
from llmos.abi.task import Family, spec_of
from llmos.training.objectives import labels, pairs, spans, tags, text
from llmos.training.objectives.objective import Loss, Objective, TaughtFamily

if TYPE_CHECKING:
    from torch import Tensor

OBJECTIVES: Mapping[Family, Objective] = {
    Family.LABELS: labels,
    Family.TAGS: tags,
    Family.SPANS: spans,
    Family.PAIRS: pairs,
    Family.TEXT: text,
}
TAUGHT: Mapping[Family, TaughtFamily] = {Family.LABELS: labels, Family.TAGS: tags}


def taught_family(task: str) -> TaughtFamily:
    """What of this task's rows a teacher can teach; KeyError for a task without labels, whose recipe was refused."""
    return TAUGHT[spec_of(task).family]


def objective_of(task: str) -> Objective:
    """The objective of this task's family."""
    return OBJECTIVES[spec_of(task).family]


def loss_of(recipe: Recipe, labels: int, weights: Tensor | None = None, head: object = None) -> Loss:
    """The loss of this recipe: that of its objective on preferences, or its task's; of generative tasks, the head
    computes it."""
    objective = objective_in(recipe.options)
    if objective is not None:
        found: Loss = import_module(f"{__name__}.{objective.name}").LOSS(
            head, objective.values(recipe.objective_settings)
        )
        return found
    return objective_of(recipe.task).loss_of(recipe, labels, weights, head)
