"""Resolves a recipe: defaults for what the user left open, by task, labels and number of rows.

The rules carry what was measured on CoNLL-2003, SST-2 and Banking77 with MiniLM (docs/log.md): tags want a high rate
and few epochs, few labels a low one, many labels a high one and more passes over the rows. What writes has no head
that starts at random, so that few steps do; its rates were measured on SmolLM2 and 20 intents of Banking77. Those of
answer, rerank and similarity are usual ones, and not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from llmos.abi.recipe import GENERATIVE, Recipe, batch_size_of, token_budget_of

MANY_LABELS = 20
LEAST_STEPS = 400  # what a head needs to leave its random start, however few the rows
LEAST_STEPS_WRITING = 60
MOST_EPOCHS = 40


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a kind of task starts from."""

    epochs: float
    learning_rate: float
    head_rate_ratio: float


def defaults(task: str, method: str, labels: int) -> Defaults:
    """By task, and by how many labels there are to tell apart."""
    if task in GENERATIVE:
        return Defaults(3, 1.5e-3, 1) if method == "lora" else Defaults(3, 1.5e-4, 1)
    if task == "answer":
        return Defaults(4, 1e-3, 2) if method == "lora" else Defaults(3, 1e-4, 10)
    if task in ("rerank", "similarity"):
        return Defaults(4, 1e-3, 2) if method == "lora" else Defaults(3, 1e-4 if task == "rerank" else 5e-5, 10)
    if method == "lora":
        if task == "tag":
            return Defaults(4, 1.5e-3, 2)
        return Defaults(8, 2e-3, 2) if labels >= MANY_LABELS else Defaults(3, 1e-3, 2)
    if task == "tag":
        return Defaults(3, 2e-4, 10)
    return Defaults(6, 3e-4, 10) if labels >= MANY_LABELS else Defaults(4, 1e-4, 10)


def resolve(recipe: Recipe, rows: int, labels: int) -> Recipe:
    """The recipe with every None decided; with few rows, as many epochs as make LEAST_STEPS."""
    start = defaults(recipe.task, recipe.method, labels)
    batch_size = batch_size_of(recipe)
    epochs = recipe.epochs
    if epochs is None:
        least = LEAST_STEPS_WRITING if recipe.task in GENERATIVE else LEAST_STEPS
        needed = math.ceil(least * batch_size / max(rows, 1))
        epochs = max(start.epochs, float(min(MOST_EPOCHS, needed)))
    pooled = recipe.task in ("classify", "rerank", "similarity")
    options = {"pooling": "mean", **recipe.options} if pooled else dict(recipe.options)
    return replace(
        recipe,
        epochs=float(epochs),
        learning_rate=recipe.learning_rate or start.learning_rate,
        head_rate_ratio=recipe.head_rate_ratio or start.head_rate_ratio,
        batch_size=batch_size,
        token_budget=token_budget_of(recipe),
        options=options,
    )
