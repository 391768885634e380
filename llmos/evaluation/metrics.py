"""Judges predictions: all metrics of the task's family and of its own, the one that decides first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.objective import primary_metric_of
from llmos.abi.task import spec_of
from llmos.data.row import Row
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.families import evaluation_of, text
from llmos.evaluation.statistics.samples import FunctionOfRows, Joined, Sample
from llmos.tasks import Settings

OwnMetric = Callable[
    [Any, Any, Settings], float | Mapping[str, float]
]  # Any: rows and predictions of the task's family


def judge(task: str, rows: Sequence[Row], predicted: Sequence[Any], settings: Settings) -> EvaluationResult:
    """All numbers of these predictions against their rows, the task's primary metric first."""
    result = evaluation_of(task).judge(task, rows, predicted, settings)
    metrics = {**result.metrics, **_own_metrics(task, rows, predicted, settings)}
    first = headline_of(task, predicted, settings)
    return replace(result, metrics={first: _primary_of(task, metrics, first), **metrics})


def headline_of(task: str, predicted: Sequence[Any], settings: Settings) -> str:
    """The name of the metric that decides of these predictions: that of the model's objective or the task's primary
    one, where it can be computed."""
    spec, wanted = spec_of(task), primary_metric_of(task, settings.options)
    return text.headline(wanted, spec.primary_metric, predicted) if spec.is_generative else wanted


def primary_metric(task: str, rows: Sequence[Row], predicted: Sequence[Any], settings: Settings) -> float:
    """The one number that decides; before a task that writes has written anything, how likely the true texts are."""
    spec, name = spec_of(task), headline_of(task, predicted, settings)
    is_primary = name == spec.primary_metric
    if spec.is_generative and is_primary and not text.is_answered(predicted):
        return text.likelihood(predicted)
    if spec.metric is not None and is_primary:
        return _primary_of(task, _own_metrics(task, rows, predicted, settings), spec.primary_metric)
    found = evaluation_of(task).metric(name, rows, predicted, settings)
    return judge(task, rows, predicted, settings).metrics[name] if found is None else found


def sample_of(task: str, rows: Sequence[Row], predicted: Sequence[Any], settings: Settings) -> Sample:
    """What each unit of the rows contributes to the metrics of the task's family and to its own."""
    sample = evaluation_of(task).sample_of(task, rows, predicted, settings)
    if spec_of(task).metric is None:
        return sample

    def own(places: Sequence[int]) -> dict[str, float]:
        return _own_metrics(task, [rows[i] for i in places], [predicted[i] for i in places], settings)

    return Joined((sample, FunctionOfRows(own, len(rows)))) if sample.units == len(rows) else sample


def _own_metrics(task: str, rows: Sequence[Row], predicted: Sequence[Any], settings: Settings) -> dict[str, float]:
    """What the task's own `metric` gives: one number, which is its primary metric, or several by name."""
    spec = spec_of(task)
    if spec.metric is None:
        return {}
    found = _load(spec.metric)(rows, predicted, settings)
    return {name: float(x) for name, x in found.items()} if isinstance(found, Mapping) else {spec.primary_metric: found}


def _primary_of(task: str, metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        raise BadInput(
            f"The task {task} is decided by {name}, which was not computed. There are: {', '.join(metrics)}. "
            "Let its `metric` give it, or name another `primary_metric`",
            task=task,
            metric=name,
        )
    return metrics[name]


@cache
def _load(path: str) -> OwnMetric:
    module, _, name = path.partition(":")
    found: OwnMetric = getattr(import_module(module), name)
    return found
