"""Unlabelled rows with a changed copy each, as a model learns them that must answer both alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from llmos.abi.augmentation import Augmentation
from llmos.abi.recipe import Recipe
from llmos.abi.task import spec_of
from llmos.data.augmentation.added import add_rows
from llmos.data.augmentation.augmenter import Material
from llmos.data.augmentation.families import FAMILY_VIEWS
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.self_training import believing
from llmos.training.examples import Example
from llmos.training.views import CopyTarget, view_example


def make_views(
    evaluator: Evaluator,
    rows: Sequence[Any],  # Any: rows of the task's family, whose targets count for nothing
    recipe: Recipe,
    held_out: Collection[str],
) -> list[Example[CopyTarget]]:
    """Each row and its copy; one that could not be changed stands twice, and dropout alone tells its views apart.

    What is made follows from the rows and the recipe's seed. No copy has a text of `held_out`, keys of rows.
    """
    task = recipe.task
    by = FAMILY_VIEWS[spec_of(task).family]
    how = Augmentation(by, strength=recipe.augment_strength, seed=recipe.seed)
    copies = {one.parent: one.row for one in add_rows(Material(task, rows), how, held_out).rows}
    changed = [copies.get(place, row) for place, row in enumerate(rows)]
    pairs = zip(evaluator.examples(rows), evaluator.examples(changed), rows, changed, strict=True)
    same_units = believing(task).same_units
    return [view_example(task, one.rendered, two.rendered, same_units(row, copy)) for one, two, row, copy in pairs]
