"""The resolved recipe: what the user left open, decided by rule from task, labels and rows; what cannot be, refused.

The rules carry what was measured on CoNLL-2003, SST-2 and Banking77 with MiniLM (docs/log.md): tags want a high rate
and few epochs, few labels a low one, many labels a high one and more passes over the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from llmos.abi.error import BadSetting
from llmos.abi.recipe import Recipe

TASKS = ("classify", "tag", "answer", "rerank", "similarity")
METHODS = ("full", "lora")
SCHEDULES = ("linear", "cosine")
CLASS_WEIGHTS = ("none", "balanced")
DTYPES = ("float32", "bfloat16")
POOLINGS = ("mean", "cls", "last", "max")
OPTIONS = frozenset(
    {
        *("multi_label", "threshold", "pooling", "max_tokens", "truncate", "skip_empty", "scale"),
        *("stride", "max_answer_tokens"),
    }
)

MANY_LABELS = 20
LEAST_STEPS = 400  # what a head needs to leave its random start, however few the rows
MOST_EPOCHS = 40


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a kind of task starts from."""

    epochs: float
    learning_rate: float
    batch_size: int
    head_rate_ratio: float


def defaults(task: str, method: str, labels: int) -> Defaults:
    """By task, and by how many labels there are to tell apart."""
    if task == "answer":
        return Defaults(4, 1e-3, 16, 2) if method == "lora" else Defaults(3, 1e-4, 16, 10)
    if task in ("rerank", "similarity"):
        return Defaults(4, 1e-3, 32, 2) if method == "lora" else Defaults(3, 1e-4 if task == "rerank" else 5e-5, 32, 10)
    if method == "lora":
        if task == "tag":
            return Defaults(4, 1.5e-3, 16, 2)
        return Defaults(8, 2e-3, 32, 2) if labels >= MANY_LABELS else Defaults(3, 1e-3, 32, 2)
    if task == "tag":
        return Defaults(3, 2e-4, 16, 10)
    return Defaults(6, 3e-4, 32, 10) if labels >= MANY_LABELS else Defaults(4, 1e-4, 32, 10)


def resolve(recipe: Recipe, rows: int, labels: int) -> Recipe:
    """The recipe with every None decided; with few rows, as many epochs as make LEAST_STEPS."""
    start = defaults(recipe.task, recipe.method, labels)
    batch_size = recipe.batch_size or start.batch_size
    epochs = recipe.epochs
    if epochs is None:
        needed = math.ceil(LEAST_STEPS * batch_size / max(rows, 1))
        epochs = max(start.epochs, float(min(MOST_EPOCHS, needed)))
    pooled = recipe.task in ("classify", "rerank", "similarity")
    options = {"pooling": "mean", **recipe.options} if pooled else dict(recipe.options)
    return replace(
        recipe,
        epochs=float(epochs),
        learning_rate=recipe.learning_rate or start.learning_rate,
        head_rate_ratio=recipe.head_rate_ratio or start.head_rate_ratio,
        batch_size=batch_size,
        options=options,
    )


def check(recipe: Recipe) -> None:
    """BadSetting at the first value that cannot be, before any device is asked for."""
    for key, value, allowed in (
        ("task", recipe.task, TASKS),
        ("method", recipe.method, METHODS),
        ("schedule", recipe.schedule, SCHEDULES),
        ("class_weights", recipe.class_weights, CLASS_WEIGHTS),
        ("dtype", recipe.dtype or DTYPES[0], DTYPES),
        ("pooling", recipe.options.get("pooling", POOLINGS[0]), POOLINGS),
    ):
        if value not in allowed:
            raise _bad(key, value, f"one of {', '.join(allowed)}")
    for key, number, least, most in (
        ("epochs", recipe.epochs, 0.0, 1000.0),
        ("learning_rate", recipe.learning_rate, 0.0, 1.0),
        ("head_rate_ratio", recipe.head_rate_ratio, 0.0, 1000.0),
        ("batch_size", recipe.batch_size, 0, 65536),
        ("token_budget", recipe.token_budget, 0, 1 << 24),
        ("clip_norm", recipe.clip_norm, 0.0, math.inf),
        ("patience", recipe.patience, 0, 1000),
        ("checkpoint_every_s", recipe.checkpoint_every_s, 0.0, math.inf),
        ("lora.rank", recipe.lora.rank, 0, 1024),
        ("lora.alpha", recipe.lora.alpha, 0, 65536),
    ):
        if number is not None and not least < number <= most:
            raise _bad(key, number, f"over {least:g} and at most {most:g}")
    for key, share in (
        ("weight_decay", recipe.weight_decay),
        ("warmup_share", recipe.warmup_share),
        ("label_smoothing", recipe.label_smoothing),
        ("lora.dropout", recipe.lora.dropout),
        ("min_metric", recipe.min_metric or 0.0),
    ):
        if not 0 <= share <= 1:
            raise _bad(key, share, "from 0 to 1")
    if unknown := sorted(set(recipe.options) - OPTIONS):
        raise _bad("options", unknown[0], f"one of {', '.join(sorted(OPTIONS))}")
    if recipe.task not in ("classify", "tag"):
        for key, value, only in (
            ("class_weights", recipe.class_weights, "none"),
            ("label_smoothing", recipe.label_smoothing, 0.0),
            ("multi_label", recipe.options.get("multi_label", False), False),
        ):
            if value != only:
                raise _bad(key, value, f"{only} for {recipe.task}, which has no labels")
    for key in ("stride", "max_answer_tokens"):
        number = recipe.options.get(key, 1)
        if isinstance(number, bool) or not isinstance(number, int) or number < (key != "stride"):
            raise _bad(key, number, "a whole number of tokens")
    scale = recipe.options.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
        raise _bad("scale", scale, "over 0: the number in the data that means the best")
    if recipe.class_weights == "balanced" and recipe.options.get("multi_label"):
        raise _bad("class_weights", "balanced", "none where a text may have many labels")


def _bad(key: str, value: object, expected: str) -> BadSetting:
    return BadSetting(f"{key} is {value!r}; it must be {expected}", key=key, value=value, expected=expected)
