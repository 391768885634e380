"""A training on labels that rules gave: whether a run learns their probabilities, and its examples if so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmos.abi.recipe import Recipe
from llmos.abi.weak_labels import WEAK_LABEL
from llmos.data.dataset import LoadedData
from llmos.data.datasets.stored_row import StoredRow
from llmos.training.examples import Example
from llmos.training.soft_labels import digest_of, soften


def weak_rows(recipe: Recipe, data: LoadedData) -> Sequence[StoredRow[Any]]:  # Any: rows of the task's family
    """The training rows, if some have labels by rules whose probabilities the recipe learns; else none.

    A teacher, class weights and label smoothing want the label itself.
    """
    train = data.stored.get("train", ())
    plain = recipe.teacher is None and recipe.class_weights == "none" and recipe.label_smoothing == 0.0
    is_soft = recipe.soft_labels and plain and not recipe.options.get("multi_label")
    return train if is_soft and any(WEAK_LABEL in one.extra for one in train) else ()


def with_soft_labels(recipe: Recipe, data: LoadedData, examples: list[Example[Any]]) -> list[Example[Any]]:
    """The examples with the probabilities of labels by rules as targets; unchanged where a run has none."""
    stored = weak_rows(recipe, data)
    if not stored:
        return examples
    count = sum(WEAK_LABEL in one.extra for one in stored)
    print(f"{count:,} of {len(stored):,} training rows have labels by rules, and are learned by their probabilities")
    return soften(recipe.task, examples, stored, data.splits.labels)


def weak_digest(recipe: Recipe, data: LoadedData) -> str:
    """Of the probabilities that a run learns; empty if none."""
    stored = weak_rows(recipe, data)
    return digest_of(stored) if stored else ""
