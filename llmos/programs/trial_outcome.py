"""What the end of a trial's process means for its search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmos.abi.process import PAUSED, Process, State
from llmos.tuning.history import Dropped, Reached, Record, VersionMade

METRIC = "metric"
DIVERGED = "its loss was no number any more: llmos logs {pid}"


def metric_key(trial: int) -> str:
    """The figure that has the metric of a trial."""
    return f"{METRIC}_{trial}"


def failed_key(trial: int) -> str:
    """The figure that says of a trial that it has no metric, and will have none."""
    return f"failed_{trial}"


def outcomes_of(process: Process, trials: Sequence[int], rung: int, *, is_last: bool) -> list[Record]:
    """The outcome of each trial that was to reach this rung, or with `is_last` to be made; none if it is to be resumed.

    A trial that ends without a fault and without a result was ended by somebody, and is left alone.
    """
    progress = process.progress
    if process.state is State.EXITED:
        made = next((ref for ref in process.made if ":" in ref), "")
        if is_last and made:
            return [VersionMade(trials[0], made, "" if progress is None else progress.message)]
        return _drop(process, trials, "stopped" if process.fault is None else "failed")
    if process.state is not State.INTERRUPTED:
        return []
    figures = progress.figures if progress is not None and progress.phase == PAUSED else {}
    metrics = _metrics(figures, trials)
    if not is_last and figures.get("rung") == rung and metrics.keys() == set(trials):
        seconds, trained_s = (round(figures[key] / len(trials), 3) for key in ("seconds", "trained_s"))
        return [
            Dropped(one, "failed", DIVERGED.format(pid=process.pid), seconds)
            if metric is None
            else Reached(one, rung, metric, seconds, trained_s)
            for one, metric in metrics.items()
        ]
    if process.exit_code == 0 and process.fault is None:
        return _drop(process, trials, "stopped")
    return []


def _metrics(figures: Mapping[str, float], trials: Sequence[int]) -> dict[int, float | None]:
    """The metric of each trial that these figures are about; None if it has failed."""
    told = {one: figures.get(metric_key(one)) for one in trials}
    return {one: metric for one, metric in told.items() if metric is not None or failed_key(one) in figures}


def _drop(process: Process, trials: Sequence[int], word: str) -> list[Record]:
    note = process.fault.message if process.fault is not None else process.reason
    return [Dropped(one, word, note) for one in trials]
