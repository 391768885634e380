"""Successive halving: which trial trains next, as a pure function of the results so far.

Jamieson and Talwalkar 2016 (arXiv:1502.07943): many trials train a little, the best part of them trains on, and so
forth. Li et al. 2020 (ASHA, arXiv:1810.05934) promote without waiting for a rung to be full, which keeps many machines
busy. A device here trains one process at a time, nothing waits, and full rungs choose better; so rungs are filled. From
ASHA come the pause with a checkpoint and the return: a trial that was passed over is next if another one fails, and
when time is left.

The best of many trials is partly luck: on 200 validation rows, one of 24 was 1 point above the defaults there, and 2
points below them on 3,000 other rows. So the defaults lead wherever nothing is better by more than a standard error:
the rule of Breiman et al. 1984 (Classification and Regression Trees, 3.4.3), with the defaults for its simplest tree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from math import ceil

from llmos.abi.json_type import Json
from llmos.abi.standard_error import standard_error
from llmos.abi.tuning import Budget
from llmos.tuning.history import Advanced, Begun, Chosen, Decision, History

FACTOR = 4  # of a rung's trials, one in so many trains on (the value of Li et al. 2020)
MOST_RUNGS = 3  # a first rung of 1/64 of a run would tell nothing
TIMED_TRIALS = 16  # a search by time has as many rungs as one of so many trials
RESERVE = 0.9  # of the time: what measuring the winner and its last epochs take is not known exactly

DEFAULT = 0  # the trial of the default settings
MOST_TOGETHER = 8  # trials of one process: more find no more work to share
LOOK_AHEAD = 32  # trials whose settings are looked at for some that can be trained together

Settings = dict[str, Json]
Sample = Callable[[int, History], Settings]
Joins = Callable[[Settings, Settings], bool]  # whether trials with these settings can be trained together


def apart(one: Settings, other: Settings) -> bool:
    """No trials are trained together."""
    return False


@dataclass(frozen=True, slots=True)
class HalvingPlan:
    """The rungs of a search, as shares of a trial's own run, its budget, and how many rows tell trials apart."""

    budget: Budget
    shares: tuple[float, ...]
    validation_rows: int


def plan_of(budget: Budget, validation_rows: int = 0) -> HalvingPlan:
    """As many rungs as the trials can be divided by the factor. Without rows, a better metric is always better."""
    trials = budget.trials or TIMED_TRIALS
    rungs = 1
    while rungs < MOST_RUNGS and FACTOR**rungs <= trials:
        rungs += 1
    return HalvingPlan(budget, tuple(FACTOR ** -(rungs - 1 - rung) for rung in range(rungs)), validation_rows)


def decide(plan: HalvingPlan, history: History, sample: Sample, joins: Joins = apart) -> tuple[Decision, ...]:
    """The decisions that are pending, or else the next ones; none once the winner is made, or no trial is left.

    Several are for trials that are trained together.
    """
    if history.made is not None:
        return ()
    if history.pending:
        return history.pending
    first = _next(plan, history, sample)
    match first:
        case None:
            return ()
        case Begun():
            others = _begun_beside(plan, history, sample, first, joins)
            return (replace(first, pack=first.trial), *others) if others else (first,)
        case Advanced():
            return (first, *_advanced_beside(plan, history, first))
        case _:
            return (first,)


def _begun_beside(plan: HalvingPlan, history: History, sample: Sample, first: Begun, joins: Joins) -> tuple[Begun, ...]:
    """Further new trials that can be trained together with the first; in a search by time, once one has told a cost."""
    if plan.budget.trials is None and not history.at(0):
        return ()
    found: list[Begun] = []
    ahead = _with_begun(history, first)
    for number in range(first.trial + 1, plan.budget.trials or first.trial + LOOK_AHEAD):
        if number in ahead.settings:
            continue
        if len(found) + 1 >= MOST_TOGETHER or len(ahead.settings) >= trials_wanted(plan, ahead):
            break
        one = Begun(number, sample(number, history), first.trial)
        if joins(first.settings, one.settings):
            found.append(one)
            ahead = _with_begun(ahead, one)
    return tuple(found)


def _with_begun(history: History, begun: Begun) -> History:
    return replace(history, settings={**history.settings, begun.trial: begun.settings})


def _advanced_beside(plan: HalvingPlan, history: History, first: Advanced) -> list[Advanced]:
    """The others of its pack among the trials that this rung takes."""
    pack, rung = history.packs.get(first.trial), first.rung
    room = _quota(plan, history, rung) - len(history.at(rung))
    chosen = _waiting(plan, history, rung)[: max(1, room)]
    return [
        Advanced(one, rung)
        for one in chosen
        if one != first.trial and pack is not None and history.packs.get(one) == pack
    ]


def _next(plan: HalvingPlan, history: History, sample: Sample) -> Decision | None:
    if len(history.settings) < trials_wanted(plan, history):
        number = next(one for one in count() if one not in history.settings)
        return Begun(number, sample(number, history))
    for rung in range(1, len(plan.shares)):
        if (
            len(history.at(rung)) < _quota(plan, history, rung)
            and (one := _best_waiting(plan, history, rung)) is not None
        ):
            return Advanced(one, rung)
    if (extra := _with_time_left(plan, history)) is not None:
        return extra
    return _choose(plan, history)


def trials_wanted(plan: HalvingPlan, history: History) -> int:
    """How many trials the search begins: as told, or as many as fit into its time by what rungs have cost so far."""
    if plan.budget.trials is not None:
        return plan.budget.trials
    assert plan.budget.seconds is not None
    begun = len(history.settings)
    if not history.at(0):
        return begun + 1  # failed trials tell no cost
    return begun + 1 if _cost(plan, history, begun + 1) <= plan.budget.seconds * RESERVE else begun


def _cost(plan: HalvingPlan, history: History, trials: int) -> float:
    """The seconds that a search of so many trials takes, with those that its failed trials have taken."""
    counts = [_count(trials, rung) for rung in range(len(plan.shares))]
    lost = sum(one.seconds for one in history.dropped.values())
    return lost + sum(some * rung_cost(plan, history, rung) for rung, some in enumerate(counts))


def _count(trials: int, rung: int) -> int:
    """How many of these trials reach a rung."""
    per_trial: int = FACTOR**rung
    return ceil(trials / per_trial)


def progress(plan: HalvingPlan, history: History) -> tuple[float, float]:
    """How far the search is, and its whole: seconds, or rungs and the measuring of the winner."""
    if plan.budget.seconds is not None:
        return min(history.spent_s, plan.budget.seconds), plan.budget.seconds
    total = sum(_count(plan.budget.trials or 1, rung) for rung in range(len(plan.shares))) + 1
    return float(min(len(history.results) + len(history.dropped), total)), float(total)


def rung_cost(plan: HalvingPlan, history: History, rung: int) -> float:
    """The seconds of a trial on this rung: the mean so far, or the first rung's with more training."""
    if known := history.at(rung):
        return sum(one.seconds for one in known) / len(known)
    first = history.at(0)
    if not first:
        return 0.0
    trained_s = sum(one.trained_s for one in first) / len(first)
    beside_s = sum(one.seconds - one.trained_s for one in first) / len(first)
    return beside_s + trained_s * (plan.shares[rung] - plan.shares[rung - 1]) / plan.shares[0]


def _quota(plan: HalvingPlan, history: History, rung: int) -> int:
    """How many trials a rung takes; once the time is over only one, which becomes the candidate."""
    if plan.budget.seconds is not None and history.spent_s >= plan.budget.seconds:
        return 1
    return _count(len(history.settings), rung)


def _best_waiting(plan: HalvingPlan, history: History, rung: int) -> int | None:
    """The first of the trials that have reached the rung below and not this one."""
    return next(iter(_waiting(plan, history, rung)), None)


def _waiting(plan: HalvingPlan, history: History, rung: int) -> list[int]:
    """The trials that have reached the rung below and not this one, in the order in which they train on."""
    return [trial for trial in in_order(plan, history, rung - 1) if (trial, rung) not in history.results]


def in_order(plan: HalvingPlan, history: History, rung: int) -> list[int]:
    """The trials at this rung that are not dropped, best first; but first the defaults, if none is clearly better."""
    found = [one for one in history.at(rung) if one.trial not in history.dropped]
    default = next((one for one in found if one.trial == DEFAULT), None)
    if default is None or not plan.validation_rows:
        return [one.trial for one in found]
    best = found[0].metric
    if best - default.metric > standard_error(best, plan.validation_rows):
        return [one.trial for one in found]
    return [DEFAULT, *(one.trial for one in found if one is not default)]


def _with_time_left(plan: HalvingPlan, history: History) -> Decision | None:
    """A trial that was passed over comes back if the time is enough for the rest of its run."""
    if plan.budget.seconds is None:
        return None
    left_s = plan.budget.seconds * RESERVE - history.spent_s
    for rung in range(len(plan.shares) - 1, 0, -1):
        rest_s = sum(rung_cost(plan, history, one) for one in range(rung, len(plan.shares)))
        if rest_s <= left_s and (one := _best_waiting(plan, history, rung)) is not None:
            return Advanced(one, rung)
    return None


def _choose(plan: HalvingPlan, history: History) -> Chosen | None:
    """The first at the last rung; None if no trial has reached it, and none can."""
    left = in_order(plan, history, len(plan.shares) - 1)
    return Chosen(left[0]) if left else None
