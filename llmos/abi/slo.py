"""Service level objectives: what share of a model's calls may be slow or fail, and how fast that budget is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from llmos.abi.error import (
    BadSetting,
    Busy,
    Corrupt,
    Crashed,
    Internal,
    NoRoom,
    NotFound,
    ProcessDied,
    TimedOut,
    Unavailable,
)
from llmos.abi.json_type import Json

ERRORS = "errors"
QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,3})?)", re.ASCII)
TIME = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s)", re.ASCII)
SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*(%)?", re.ASCII)
MOST_OBJECTIVES = 8
LEAST_BUDGET = 1e-6
PERIOD_S = 30 * 86_400.0  # the budget is of the last 30 days
WINDOWS: Mapping[str, float] = {
    "5m": 300.0,
    "30m": 1_800.0,
    "1h": 3_600.0,
    "6h": 21_600.0,
    "3d": 259_200.0,
    "30d": PERIOD_S,
}
# of the service, not of the caller; others but `ok` are not counted at all
FAILED = frozenset(
    one.code for one in (Internal, ProcessDied, Corrupt, Crashed, TimedOut, NoRoom, NotFound, Unavailable, Busy)
)


@dataclass(frozen=True, slots=True)
class SloObjective:
    """At most the share `budget` of calls is bad: fails, or also takes longer than `limit_s`, where that is not 0."""

    text: str
    budget: float
    limit_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Slo:
    """The objectives of a model's name, for all of its versions; none: there is no SLO."""

    name: str
    objectives: tuple[SloObjective, ...] = ()
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ObjectiveState:
    """How an objective stands.

    `calls` and `bad` are of the last 30 days; `budget_left` is 1 for an untouched budget, below 0 once it is spent.
    `burn_rates` are by window: at 1 the budget lasts exactly 30 days. `severity` is empty, ticket or page.
    """

    objective: str
    budget: float
    calls: int
    bad: int
    budget_left: float
    burn_rates: dict[str, float]
    severity: str = ""
    since: float | None = None


@dataclass(frozen=True, slots=True)
class SloState:
    """A model's objectives, and how they stand."""

    name: str
    created_at: float
    objectives: tuple[ObjectiveState, ...]


def objectives_of(asked: Mapping[str, Json]) -> tuple[SloObjective, ...]:
    """`{"p99": "50ms", "errors": "0.1%"}` as objectives; BadSetting for what is none."""
    if not 0 < len(asked) <= MOST_OBJECTIVES:
        raise BadSetting(
            f"An SLO has 1 to {MOST_OBJECTIVES} objectives, such as p99 50ms and errors 0.1%", key="objectives"
        )
    return tuple(_objective(key, value) for key, value in asked.items())


def _objective(key: str, value: Json) -> SloObjective:
    if key == ERRORS:
        budget = _share(value)
        return SloObjective(f"errors<={budget * 100:.6g}%", budget)
    found = QUANTILE.fullmatch(key)
    budget = 0.0 if found is None else round(1.0 - float(found[1]) / 100.0, 9)
    if not LEAST_BUDGET <= budget < 1.0:
        raise BadSetting(
            f"{key[:40]!r} is no objective. There are errors, and percentiles such as p50, p99 and p99.9", key=key[:40]
        )
    limit_s = _seconds(key, value)
    return SloObjective(f"{key}<={_time(limit_s)}", budget, limit_s)


def _share(value: Json) -> float:
    """`0.1%` or 0.001 as a share."""
    found = SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    share = float(found[1]) / (100.0 if found[2] else 1.0) if found else value if isinstance(value, float) else 0.0
    if not LEAST_BUDGET <= share < 1.0:
        raise BadSetting(
            f"errors is {str(value)[:40]!r}; it is a share of calls above 0 and below 1, such as 0.1% or 0.001",
            key=ERRORS,
        )
    return share


def _seconds(key: str, value: Json) -> float:
    """`50ms`, `0.2s`, or a number of seconds."""
    found = TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if found:
        seconds = float(found[1]) * (0.001 if found[2] == "ms" else 1.0)
    else:
        seconds = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    if not 0.0 < seconds <= 86_400.0:
        raise BadSetting(f"{key} is {str(value)[:40]!r}; it is a time, such as 50ms or 1.5s", key=key)
    return seconds


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.6g}ms" if seconds < 1.0 else f"{seconds:.6g}s"
