"""Agreement: whether a model answers rows as they are labelled, which copies of rows are kept by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmos.abi.error import WrongTask
from llmos.abi.frame import ModelPath
from llmos.evaluation.evaluator import Evaluator, load_evaluator
from llmos.evaluation.families import evaluation_of


@dataclass(frozen=True, slots=True)
class Agreement:
    """A model that is asked whether it labels rows as they are labelled."""

    evaluator: Evaluator

    def __call__(self, rows: Sequence[Any]) -> list[bool]:  # Any: rows of the task's family
        """For each row whether the model's answer is right."""
        if not rows:
            return []
        one = self.evaluator
        predicted = one.predict(rows)
        return [found.is_right for found in evaluation_of(one.task).outcomes(one.task, rows, predicted, one.settings)]


def load_agreement(model: ModelPath, task: str, dtype: str, device: str) -> Agreement:
    """The model, loaded; WrongTask for one of another task."""
    has = model.manifest.task
    if has != task:
        raise WrongTask(
            f"{model.manifest.ref} does {has}, and the rows are for {task}. Name a model of theirs",
            model=model.manifest.ref,
            task=task,
            has=has,
        )
    return Agreement(load_evaluator(model, task, dtype, device))
