"""Loads a model and predicts labelled rows with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmos.abi.frame import ModelPath
from llmos.abi.json_type import Json
from llmos.data.row import Row
from llmos.evaluation.generation_eval import generate_answers
from llmos.evaluation.judge import Judge
from llmos.evaluation.predictions import predict
from llmos.tasks import Settings
from llmos.tasks.calibration import load_calibration
from llmos.training.candidate import Candidate, load_stored
from llmos.training.examples import Example, make_examples
from llmos.training.reference import with_reference

OnDone = Callable[[int], None]


def _ignore(done: int) -> None:
    """Nobody asked how far it is."""


@dataclass(frozen=True, slots=True)
class Evaluator(Judge):
    """A candidate, and the task and settings that its predictions are made and judged by."""

    candidate: Candidate
    task: str
    settings: Settings

    def examples(self, rows: Sequence[Row]) -> list[Example[Any]]:  # Any: targets and predictions of the task's family
        """The rows as tokens; BadRow at the first that is longer than the model takes."""
        return make_examples(self.task, rows, self.candidate.loaded.tokenizer, self.settings)

    def predict_raw(
        self,
        rows: Sequence[Row],
        on_row: OnDone = _ignore,
        on_answer: OnDone = _ignore,
        answered: Sequence[int] | None = None,
    ) -> list[Any]:
        """Predictions of the rows before calibration, in order (`apply_calibration` makes the served ones); where the
        task writes, with generated answers to those at the places `answered`, or to as many as the options say."""
        examples = with_reference(self.candidate, self.examples(rows))
        predicted = predict(self.candidate, self.task, examples, self.settings, on_done=on_row)
        return generate_answers(
            self.candidate, self.task, rows, examples, predicted, self.settings, answered, on_done=on_answer
        )

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """The same as they are served."""
        return self.apply_calibration(self.predict_raw(rows))


def load_evaluator(
    model: ModelPath, task: str, dtype: str, device: str, options: dict[str, Json] | None = None
) -> Evaluator:
    """A version of the store, with these options instead of its own; without any, it cuts what is longer than it takes.

    A version was trained on rows that fit it; those of another must not stop a comparison.
    """
    manifest = model.manifest
    candidate = load_stored(model, dtype, device)
    options = {**manifest.options, "truncate": True} if options is None else options
    calibration = load_calibration(Path(model.folder))
    return Evaluator(candidate, task, Settings(manifest.labels, options, candidate.loaded.max_tokens, calibration))
