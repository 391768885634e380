"""Measures every slice of an evaluation: its rows, the primary metric with its interval, and the worst slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmos.abi.json_type import Json
from llmos.abi.row_outcome import RowOutcome
from llmos.evaluation.slices.facets import LENGTH, value_counts
from llmos.evaluation.slices.worst import WorstSlice, worst_slice
from llmos.evaluation.statistics.intervals import intervals, wilson

if TYPE_CHECKING:
    from llmos.data.row import Row
    from llmos.evaluation.judge import Judge

LEAST_ROWS = 10  # of a slice that is shown
MOST_SLICES = 300
RESAMPLED_SLICES = 80  # of a metric whose interval takes a bootstrap


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows with this value of a facet: how many, and the metric with the ends of its 95 % interval."""

    facet: str
    value: str
    rows: int
    metric: float
    low: float | None = None
    high: float | None = None

    @property
    def name(self) -> str:
        return f"{self.facet}={self.value}"

    def plain(self) -> dict[str, Json]:
        ends = {} if self.low is None else {"low": self.low, "high": self.high}
        return {"facet": self.facet, "value": self.value, "rows": self.rows, "metric": self.metric, **ends}


@dataclass(frozen=True, slots=True)
class SliceReport:
    """All slices of the test rows. `few`: by facet how many values have too few rows to be shown; `left_out`: columns
    that are no slices, with the reason."""

    metric: str
    overall: float
    slices: tuple[Slice, ...]
    worst: WorstSlice | None
    few: dict[str, int]
    left_out: dict[str, str]
    measure: str = ""  # what the worst slice's score is

    def plain(self) -> dict[str, Json]:
        return {
            "metric": self.metric,
            "overall": self.overall,
            "slices": [one.plain() for one in self.slices],
            "worst": None if self.worst is None else {**self.worst.plain(), "measure": self.measure},
            "few": self.few,
            "left_out": self.left_out,
            "least_rows": LEAST_ROWS,
        }


def measure_slices(
    judge: Judge,
    rows: Sequence[Row],
    predicted: Sequence[Any],  # Any: predictions of the task's family
    outcomes: Sequence[RowOutcome],
    metric: str,
    left_out: dict[str, str] | None = None,
) -> SliceReport:
    """Every value of every facet that has enough rows, and the worst slice of all. The facets stand in the outcomes."""
    places: dict[tuple[str, str], list[int]] = {}
    for i, one in enumerate(outcomes):
        for facet, values in one.facets.items():
            for value in dict.fromkeys(values):
                places.setdefault((facet, value), []).append(i)
    counts = value_counts([one.facets for one in outcomes])
    few = {facet: sum(count < LEAST_ROWS for count in of.values()) for facet, of in counts.items()}
    shown = sorted((key for key, some in places.items() if len(some) >= LEAST_ROWS), key=_order(counts))[:MOST_SLICES]
    slices = tuple(
        slice_of(judge, rows, predicted, key, places[key], metric, has_interval=at < RESAMPLED_SLICES)
        for at, key in enumerate(shown)
    )
    scored = [one for one in outcomes if one.score is not None]
    worst = worst_slice(
        [one.score or 0.0 for one in scored], [one.facets for one in scored], [one.texts for one in scored]
    )
    is_share = all(one.score in (0.0, 1.0) for one in scored)
    return SliceReport(
        metric,
        judge.primary_metric(rows, predicted) if rows else 0.0,
        slices,
        worst,
        {facet: count for facet, count in few.items() if count},
        left_out or {},
        "rows right" if is_share else "mean score of a row",
    )


def slice_of(
    judge: Judge,
    rows: Sequence[Row],
    predicted: Sequence[Any],  # Any: as above
    key: tuple[str, str],
    places: Sequence[int],
    metric: str,
    *,
    has_interval: bool = True,
) -> Slice:
    """The metric on these rows alone; a share of rows always has its interval, which costs nothing."""
    some, its = [rows[i] for i in places], [predicted[i] for i in places]
    sample = judge.sample(some, its)
    value = judge.primary_metric(some, its)
    if metric in sample.shares:
        share = sample.shares[metric]
        found = wilson(float(share.sum()), len(share))
    elif has_interval:
        interval = intervals(sample).get(metric)
        if interval is None:
            return Slice(*key, len(places), value)
        found = interval
    else:
        return Slice(*key, len(places), value)
    return Slice(*key, len(places), value, found.low, found.high)


def _order(counts: dict[str, Any]) -> Any:  # Any: a key function
    """By facet in the order in which they come; lengths as they grow, others by their rows."""
    facets = {facet: i for i, facet in enumerate(counts)}
    lengths = {"at most": 0, "over": 2}

    def key(one: tuple[str, str]) -> tuple[int, float, str]:
        facet, value = one
        if facet == LENGTH:
            start = next((rank for word, rank in lengths.items() if value.startswith(word)), 1)
            return facets[facet], start, value.rjust(40)
        return facets[facet], -counts[facet][value], value

    return key
