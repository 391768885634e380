"""Judges predictions of labelled rows, whatever made them: metrics, intervals, outcomes by row, slices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from llmos.abi.check_marks import read_check_marks, with_check_marks
from llmos.abi.json_type import Json
from llmos.abi.row_outcome import RowOutcome
from llmos.data.row import Row
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.families import calibrated_family, evaluation_of
from llmos.evaluation.metrics import headline_of, judge, primary_metric, sample_of
from llmos.evaluation.slices.facets import facets_of
from llmos.evaluation.slices.measure import SliceReport, measure_slices
from llmos.evaluation.statistics.intervals import intervals
from llmos.evaluation.statistics.samples import Sample
from llmos.tasks import Settings


@dataclass(frozen=True, slots=True)
class RowFindings:
    """What was answered to each row, and how good the answers are in each slice of the rows."""

    outcomes: tuple[RowOutcome, ...]
    slices: SliceReport

    def with_checks(self, folders: Iterable[str]) -> RowFindings:
        """The same, with what the reports of `data check` in these folders say of the rows."""
        marks = read_check_marks(folders)
        return replace(self, outcomes=tuple(with_check_marks(self.outcomes, marks))) if marks else self


class Judge:
    """What judges predictions: a task and the settings that they were made with."""

    __slots__ = ()

    task: str
    settings: Settings

    def apply_calibration(self, raw: list[Any]) -> list[Any]:
        """The predictions with the probabilities that are served: with the head's calibration."""
        calibration, family = self.settings.calibration, calibrated_family(self.task)
        if calibration is None or family is None or not raw:
            return raw
        return family.apply_calibration(raw, calibration, self.settings)

    def judge(self, rows: Sequence[Row], predicted: Sequence[Any]) -> EvaluationResult:
        """All metrics of these predictions with their intervals, the primary one first, and the worst mistakes."""
        result = judge(self.task, rows, predicted, self.settings)
        found = intervals(self.sample(rows, predicted))
        return replace(result, intervals={name: found[name] for name in result.metrics if name in found})

    def examine(
        self,
        rows: Sequence[Row],
        predicted: Sequence[Any],  # Any: predictions of the task's family
        ids: Sequence[str] = (),
        extras: Sequence[Mapping[str, Json]] = (),
    ) -> RowFindings:
        """What was answered to each row, and every slice. `ids` and `extras`, the rows' other columns, are parallel to
        the rows; without ids, rows are known by their digests."""
        found = list(evaluation_of(self.task).outcomes(self.task, rows, predicted, self.settings))
        facets = facets_of(found, extras)
        outcomes = tuple(
            structs.replace(one, facets=its, **({"id": ids[i]} if ids else {}))
            for i, (one, its) in enumerate(zip(found, facets.values, strict=True))
        )
        metric = headline_of(self.task, predicted, self.settings)
        return RowFindings(outcomes, measure_slices(self, rows, predicted, outcomes, metric, facets.left_out))

    def sample(self, rows: Sequence[Row], predicted: Sequence[Any]) -> Sample:
        """What each unit contributes to the metrics, to be compared with another model's of the same rows."""
        return sample_of(self.task, rows, predicted, self.settings)

    def primary_metric(self, rows: Sequence[Row], predicted: Sequence[Any]) -> float:
        """The one metric that decides."""
        return primary_metric(self.task, rows, predicted, self.settings)
