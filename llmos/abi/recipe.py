"""The recipe: everything that decides a training run. None means: decided from task and data, and written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = Any  # Any: a JSON value whose schema belongs to the task


@dataclass(frozen=True, slots=True)
class Data:
    """Where the rows come from: absolute paths or dataset refs (`name@version`), and how to read them.

    `format` is csv, tsv, jsonl, parquet or conll; columns are names, or numbers from 0 where there is no header.
    """

    train: str
    validation: str | None = None
    test: str | None = None
    format: str | None = None
    text: str | None = None
    label: str | None = None
    has_header: bool | None = None
    validation_share: float = 0.1
    test_share: float = 0.1


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRA's own settings (Hu et al. 2021, arXiv:2106.09685); `targets` end module names, None: all linear."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run. `batch_size` counts examples per optimizer step, `token_budget` tokens per forward pass."""

    task: str
    name: str
    base: str
    data: Data
    method: str = "full"  # full or lora
    lora: Lora = Lora()
    options: dict[str, Json] = field(
        default_factory=dict
    )  # the task's: multi_label, max_tokens, pooling, threshold ...
    epochs: float | None = None
    learning_rate: float | None = None
    head_rate_ratio: float | None = None  # the head's learning rate over the encoder's
    batch_size: int | None = None
    token_budget: int = 4096
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    schedule: str = "linear"  # linear or cosine
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    class_weights: str = "none"  # none or balanced
    patience: int | None = None  # epochs without a better validation metric before stopping; None: run them all
    seed: int = 7
    dtype: str | None = None  # None: the device's measured best
    checkpoint_every_s: float = 30.0
    min_metric: float | None = None
    save_best: bool = True  # keep the epoch with the best validation metric rather than the last
