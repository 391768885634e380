"""The leaderboard of a search: its trials, best first, from the history and the process of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from llmos.abi.json_type import Json
from llmos.abi.tuning import Leaderboard, TrialRow
from llmos.tuning.halving import DEFAULT
from llmos.tuning.history import History
from llmos.tuning.importance import importances
from llmos.tuning.space import Space


@dataclass(frozen=True, slots=True)
class Search:
    """What does not change during a search."""

    task: str
    name: str
    base: str
    metric: str
    budget: str
    sampler: str
    shares: tuple[float, ...]
    space: Space
    shown: Callable[[Mapping[str, Json]], dict[str, Json]]  # a trial's settings as its recipe has them


def leaderboard(
    search: Search, history: History, pids: Mapping[int, int], summary: str = "", queued: Collection[int] = ()
) -> Leaderboard:
    """The leaderboard now. Trials that have come further stand above the others, then the better ones.

    `pids` has the process of each trial that began; those in `queued` are not let in yet.
    """
    rows = [_row(search, history, trial, pids.get(trial), queued) for trial in history.settings]
    rows.sort(key=lambda row: (row.number != history.chosen, -len(row.metrics), -(row.metric or 0.0), row.number))
    made = history.made
    return Leaderboard(
        search.task,
        search.name,
        search.base,
        search.metric,
        search.budget,
        search.sampler,
        search.shares,
        tuple(rows),
        round(history.spent_s, 1),
        history.chosen,
        "" if made is None else made.ref,
        summary or ("" if made is None else made.summary),
        importances(search.space, history),
    )


def _row(search: Search, history: History, trial: int, pid: int | None, queued: Collection[int]) -> TrialRow:
    results, dropped, given = history.rungs_of(trial), history.dropped.get(trial), history.settings[trial]
    state = "paused"
    if dropped is not None:
        state = dropped.word
    elif history.made is not None:
        state = "done" if history.made.trial == trial else "ended"
    elif any(one.trial == trial for one in history.pending):
        state = "waiting" if pid is None or pid in queued else "running"
    seconds = sum(one.seconds for one in results) + (dropped.seconds if dropped else 0.0)
    return TrialRow(
        number=trial,
        settings=search.shown(given),
        factors=dict(given),
        state=state,
        metrics=tuple(one.metric for one in results),
        share=search.shares[len(results) - 1] if results else 0.0,
        seconds=round(seconds, 1),
        pid=pid,
        note="" if dropped is None else dropped.note,
        is_default=trial == DEFAULT,
    )
