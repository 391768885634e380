"""Tuning: the budget and arguments of a search, and the leaderboard that it keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from llmos.abi.error import BadSetting
from llmos.abi.json_type import Json
from llmos.abi.method import method_names
from llmos.abi.recipe import Recipe, recipe_of
from llmos.abi.wire import from_plain

SAMPLERS = ("auto", "quasi-random", "random", "tpe")
MOST_TRIALS = 1_000
MOST_SECONDS = 30 * 24 * 3600.0
DEFAULT_BUDGET = "24 trials"
TUNE_ARGUMENTS = ("budget", "sampler", "methods")
TRIAL_ARGUMENTS = ("number", "shares", "rung", "trials", "search", "pack", "active")
TRIALS = re.compile(r"(\d+)(?:\s*trials?)?")
SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s)?")


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may take: a number of trials, or seconds of training and measuring."""

    trials: int | None = None
    seconds: float | None = None


def budget_of(text: str) -> Budget:
    """The budget in a text such as `24 trials`, `24`, `15m` or `1h30m`; BadSetting if it says neither."""
    said = text.strip().lower()
    if (found := TRIALS.fullmatch(said)) and 0 < int(found[1]) <= MOST_TRIALS:
        return Budget(trials=int(found[1]))
    if said and (found := SPAN.fullmatch(said)):
        hours, minutes, seconds = (float(one or 0) for one in found.groups())
        total = 3600 * hours + 60 * minutes + seconds
        if 0 < total <= MOST_SECONDS:
            return Budget(seconds=total)
    raise BadSetting(
        f"budget is {text!r}; it must be a time such as 15m or 1h30m, or a number of trials such as '24 trials', at "
        f"most {MOST_TRIALS:,} trials or 30 days",
        key="budget",
        value=text,
        expected="15m, 1h30m or '24 trials'",
    )


def check_tuning(args: Mapping[str, Json]) -> dict[str, Json]:
    """The search's own arguments with defaults; BadSetting for the first that is wrong."""
    budget = str(args.get("budget") or DEFAULT_BUDGET)
    budget_of(budget)
    sampler = str(args.get("sampler") or SAMPLERS[0])
    if sampler not in SAMPLERS:
        raise BadSetting(
            f"sampler is {sampler!r}; it must be one of {', '.join(SAMPLERS)}",
            key="sampler",
            value=sampler,
            expected=list(SAMPLERS),
        )
    methods = list(args.get("methods") or ())
    for one in methods:
        if one not in method_names():
            raise BadSetting(
                f"methods has {one!r}; it may have: {', '.join(method_names())}",
                key="methods",
                value=one,
                expected=list(method_names()),
            )
    return {"budget": budget, "sampler": sampler, "methods": methods}


@dataclass(frozen=True, slots=True)
class PackedTrial:
    """A trial of a process that trains several together: its number, and what its recipe has of its own."""

    number: int
    changes: dict[str, Json] = field(default_factory=dict)


def pack_of(args: Mapping[str, Json]) -> tuple[PackedTrial, ...]:
    """The trials of a process with these arguments."""
    found = from_plain(args.get("pack") or [], tuple[PackedTrial, ...])
    return found or (PackedTrial(int(args["number"])),)


def active_of(args: Mapping[str, Json]) -> list[int]:
    """The numbers of the trials of a process with these arguments that work now."""
    return [int(one) for one in args.get("active") or [args["number"]]]


def recipes_of(args: Mapping[str, Json]) -> dict[int, Recipe]:
    """The recipes of these trials, by number."""
    plain = {key: value for key, value in args.items() if key not in TRIAL_ARGUMENTS}
    return {one.number: recipe_of({**plain, **one.changes}) for one in pack_of(args)}


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial on the leaderboard. `metrics` has its validation metric at each rung that it has reached.

    `settings` are those of its recipe, `factors` the same as the search has them: rates, epochs, batch and rank as
    factors of their defaults. `state` is waiting (for a process, or for room for it), running, paused, failed,
    stopped or, after the search, done (the winner) or ended. `share` is how much of its run is behind it.
    """

    number: int
    settings: dict[str, Json]
    factors: dict[str, Json] = field(default_factory=dict)
    state: str = "paused"
    metrics: tuple[float, ...] = ()
    share: float = 0.0
    seconds: float = 0.0
    pid: int | None = None
    note: str = ""
    is_default: bool = False

    @property
    def metric(self) -> float | None:
        """Its validation metric at the last rung that it has reached."""
        return self.metrics[-1] if self.metrics else None


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A search as it stands: its trials, best first, and what came of it.

    `shares` are the rungs, as shares of a trial's own run. `importances` say how much of the metric's variance at the
    first rung each setting explains.
    """

    task: str
    name: str
    base: str
    metric: str
    budget: str
    sampler: str
    shares: tuple[float, ...]
    trials: tuple[TrialRow, ...] = ()
    spent_s: float = 0.0
    winner: int | None = None
    made: str = ""
    summary: str = ""
    importances: dict[str, float] = field(default_factory=dict)
