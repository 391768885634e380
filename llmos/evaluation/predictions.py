"""Predictions of a candidate on examples, in the types of their task's family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from llmos.evaluation.families import evaluation_of
from llmos.tasks import Settings
from llmos.training.candidate import Candidate
from llmos.training.examples import Example, passes

TOKENS_AT_ONCE = 8192


def predict(
    candidate: Candidate,
    task: str,
    examples: Sequence[Example[Any]],  # Any: targets of the task's family, as the predictions are
    settings: Settings,
    *,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Any]:
    """The examples' predictions in their order, computed in order of length."""
    predictions_of = evaluation_of(task).predictions_of
    sizes = [one.size for one in examples]
    found: list[Any] = [None] * len(examples)
    candidate.train(False)
    done = 0
    with torch.inference_mode():
        for part in passes(range(len(examples)), sizes, TOKENS_AT_ONCE):
            some = [examples[i] for i in part]
            logits = candidate.logits([ids for one in some for ids in one.sequences])
            for i, one in zip(part, predictions_of(task, candidate.head, some, logits, settings), strict=True):
                found[i] = one
            done += len(part)
            on_done(done)
    return found
