"""What differs in evaluating the families of tasks: a file for each family, found by a task's declaration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from llmos.abi.json_type import Json
from llmos.abi.row_outcome import RowOutcome
from llmos.abi.task import Family, spec_of
from llmos.evaluation.calibration import Indices
from llmos.evaluation.confidence import Answers, Decisions
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.families import labels, pairs, spans, tags, text
from llmos.evaluation.statistics.samples import Sample
from llmos.tasks import Settings
from llmos.tasks.calibration import Calibration


class EvaluationFamily(Protocol):
    """What a family's file has; rows and predictions are of the family's own types, which Any stands for here."""

    def predictions_of(
        self, task: str, head: object, examples: Any, logits: Tensor, settings: Settings
    ) -> Iterable[Any]:
        """One prediction an example, from what the candidate gave for a batch of them."""
        ...

    def metric(self, name: str, rows: Any, predicted: Any, settings: Settings) -> float | None:
        """This one metric, without the rest; None where it is computed with all of them alone."""
        ...

    def judge(self, task: str, rows: Any, predicted: Any, settings: Settings) -> EvaluationResult:
        """All metrics of these predictions against their rows, and the worst mistakes."""
        ...

    def sample_of(self, task: str, rows: Any, predicted: Any, settings: Settings) -> Sample:
        """What each unit of the rows contributes to the metrics, for intervals and comparisons."""
        ...

    def target_of(self, row: Any) -> str:
        """The true answer to a row, as a person reads it."""
        ...

    def outcomes(self, task: str, rows: Any, predicted: Any, settings: Settings) -> Iterable[RowOutcome]:
        """What was answered to each row, in order: right or not, how, and how surely."""
        ...


FAMILIES: Mapping[Family, EvaluationFamily] = {
    Family.LABELS: labels,
    Family.TAGS: tags,
    Family.SPANS: spans,
    Family.PAIRS: pairs,
    Family.TEXT: text,
}


class CalibratedFamily(Protocol):
    """What the file of a family has besides, whose predictions are probabilities of labels."""

    def apply_calibration(self, predicted: Any, calibration: Calibration, settings: Settings) -> list[Any]:
        """The predictions at its temperature and with its biases: those that are served."""
        ...

    def decisions(self, rows: Any, predicted: Any, settings: Settings) -> Decisions:
        """Every choice among labels, with its truth."""
        ...

    def answers(self, rows: Any, predicted: Any, settings: Settings, given: Indices | None = None) -> Answers | None:
        """The rows' whole answers; None where a part of one can be right.

        `given`: the place of the label that is each answer, where another than the likeliest may be, [rows].
        """
        ...


CALIBRATED: Mapping[Family, CalibratedFamily] = {Family.LABELS: labels, Family.TAGS: tags}


class ServedFamily(Protocol):
    """What the file of a family has besides, whose served answers can be measured as they are."""

    def from_outputs(self, rows: Any, outputs: Sequence[Json], settings: Settings) -> list[Any]:
        """Predictions made of what was answered to the rows' inputs; a text that was not asked for is None."""
        ...


SERVED: Mapping[Family, ServedFamily] = {Family.LABELS: labels, Family.TAGS: tags, Family.TEXT: text}


def served_family(task: str) -> ServedFamily | None:
    """How answers of this task become predictions; None where they do not say enough."""
    return SERVED.get(spec_of(task).family)


def calibrated_family(task: str) -> CalibratedFamily | None:
    """How this task's predictions are calibrated; None where they are no probabilities of labels."""
    return CALIBRATED.get(spec_of(task).family)


def evaluation_of(task: str) -> EvaluationFamily:
    """How this task's predictions are read and judged."""
    return FAMILIES[spec_of(task).family]
