"""Resolves a recipe: defaults for what the user left open, by task, labels and number of rows.

The defaults were measured on CoNLL-2003, SST-2 and Banking77 with MiniLM (docs/log.md), and for generative tasks on
SmolLM2 with 20 intents of Banking77. Those of answer, rerank and similarity are usual values, not measured.
"""

from __future__ import annotations

import math
from dataclasses import replace

from llmos.abi.method import method_of
from llmos.abi.objective import objective_in
from llmos.abi.recipe import Recipe, batch_size_of, token_budget_of
from llmos.abi.task import spec_of
from llmos.training.objectives import objective_of

MOST_EPOCHS = 40
POOLING_HEADS = ("sequence", "pooled")


def resolve(recipe: Recipe, rows: int, labels: int, rate_factor: float = 1.0) -> Recipe:
    """The recipe with every None decided; with few rows, epochs are raised to reach the least number of steps.

    Some bases learn at a higher rate than others: `rate_factor` says how much.
    """
    start = objective_of(recipe.task).defaults(recipe.task, method_of(recipe.method), labels)
    objective = objective_in(recipe.options)
    rate = start.learning_rate if objective is None else start.learning_rate * objective.rate
    batch_size = batch_size_of(recipe)
    epochs = recipe.epochs
    if epochs is None:
        needed = math.ceil(start.least_steps * batch_size / max(rows, 1))
        epochs = max(start.epochs, float(min(MOST_EPOCHS, needed)))
    pooled = spec_of(recipe.task).head in POOLING_HEADS
    options = {"pooling": "mean", **recipe.options} if pooled else dict(recipe.options)
    return replace(
        recipe,
        epochs=float(epochs),
        learning_rate=recipe.learning_rate or rate * rate_factor * recipe.rate_multiplier,
        head_rate_ratio=recipe.head_rate_ratio or start.head_rate_ratio,
        batch_size=batch_size,
        token_budget=token_budget_of(recipe),
        options=options,
    )
