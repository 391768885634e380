"""Loads a model, predicts labelled rows with it and judges the predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from llmos.abi.frame import ModelPath
from llmos.abi.json_type import Json
from llmos.abi.row_outcome import RowOutcome
from llmos.data.row import Row
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.families import calibrated_family, evaluation_of
from llmos.evaluation.generation_eval import generate_answers
from llmos.evaluation.metrics import judge, primary_metric, sample_of
from llmos.evaluation.predictions import predict
from llmos.evaluation.slices.facets import facets_of
from llmos.evaluation.statistics.intervals import intervals
from llmos.evaluation.statistics.samples import Sample
from llmos.tasks import Settings
from llmos.tasks.calibration import load_calibration
from llmos.training.candidate import Candidate, load_stored
from llmos.training.examples import Example, make_examples

OnDone = Callable[[int], None]


def _ignore(done: int) -> None:
    """Nobody asked how far it is."""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """A candidate, and the task and settings that its predictions are made and judged by."""

    candidate: Candidate
    task: str
    settings: Settings

    def examples(self, rows: Sequence[Row]) -> list[Example[Any]]:  # Any: targets and predictions of the task's family
        """The rows as tokens; BadRow at the first that is longer than the model takes."""
        return make_examples(self.task, rows, self.candidate.loaded.tokenizer, self.settings)

    def apply_calibration(self, raw: list[Any]) -> list[Any]:
        """The predictions with the probabilities that are served: at the head's temperature."""
        calibration, family = self.settings.calibration, calibrated_family(self.task)
        if calibration is None or family is None or not raw:
            return raw
        return family.apply_temperature(raw, calibration.temperature, self.settings)

    def predict_raw(
        self,
        rows: Sequence[Row],
        on_row: OnDone = _ignore,
        on_answer: OnDone = _ignore,
        answered: Sequence[int] | None = None,
    ) -> list[Any]:
        """Predictions of the rows before calibration, in order (`apply_calibration` makes the served ones); where the
        task writes, with generated answers to those at the places `answered`, or to as many as the options say."""
        examples = self.examples(rows)
        predicted = predict(self.candidate, self.task, examples, self.settings, on_done=on_row)
        return generate_answers(
            self.candidate, self.task, rows, examples, predicted, self.settings, answered, on_done=on_answer
        )

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """The same as they are served."""
        return self.apply_calibration(self.predict_raw(rows))

    def judge(self, rows: Sequence[Row], predicted: Sequence[Any]) -> EvaluationResult:
        """All metrics of these predictions with their intervals, the primary one first, and the worst mistakes."""
        result = judge(self.task, rows, predicted, self.settings)
        found = intervals(self.sample(rows, predicted))
        return replace(result, intervals={name: found[name] for name in result.metrics if name in found})

    def outcomes(
        self, rows: Sequence[Row], predicted: Sequence[Any], extras: Sequence[Mapping[str, Json]] = ()
    ) -> tuple[list[RowOutcome], dict[str, str]]:
        """What was answered to each row, with the slices that it belongs to; and the columns of `extras`, which are the
        rows' other columns, that are no slices, with the reason."""
        found = list(evaluation_of(self.task).outcomes(self.task, rows, predicted, self.settings))
        facets = facets_of(found, extras)
        return [
            structs.replace(one, facets=its) for one, its in zip(found, facets.values, strict=True)
        ], facets.left_out

    def sample(self, rows: Sequence[Row], predicted: Sequence[Any]) -> Sample:
        """What each unit contributes to the metrics, to be compared with another model's of the same rows."""
        return sample_of(self.task, rows, predicted, self.settings)

    def primary_metric(self, rows: Sequence[Row], predicted: Sequence[Any]) -> float:
        """The one metric that decides."""
        return primary_metric(self.task, rows, predicted, self.settings)


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
