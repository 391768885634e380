"""Decides what a rollout does next: nothing, a step, a hold, the promotion, or the way back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from llmos.abi.rollout import GuardState, Mode, Rollout, Stage, Tally
from llmos.kernel.rollouts.guards import BROKEN, KEPT, is_broken, judge


class RolloutVerdict(StrEnum):
    """What is done about a rollout."""

    STEP = "step"
    HOLD = "hold"
    ROLL_BACK = "roll_back"
    PROMOTE = "promote"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class RolloutDecision:
    """A verdict, why, and the numbers that it rests on."""

    verdict: RolloutVerdict
    reason: str
    figures: dict[str, float] = field(default_factory=dict)


def guard_states(rollout: Rollout) -> tuple[GuardState, ...]:
    """What each guard has seen. Each has its part of the error, so that all together err with at most `alpha`."""
    guards = rollout.guards
    return tuple(judge(one, rollout.tallies, rollout.plan.alpha / len(guards)) for one in guards)


def is_any_broken(rollout: Rollout, tallies: Mapping[str, Tally]) -> bool:
    """Whether a guard is shown to be broken; cheap, so that it is asked after each observation."""
    guards = rollout.guards
    return any(is_broken(one, tallies, rollout.plan.alpha / len(guards)) for one in guards)


def decide(rollout: Rollout) -> RolloutDecision | None:
    """The next thing to do, of a rollout with these tallies; None while there is nothing to do.

    A canary and a shadow go on when the calls of the step are there and no guard leans the wrong way. An ab test goes
    on when every guard is shown to be kept: it is there to find out.
    """
    if rollout.stage not in (Stage.RUNNING, Stage.HOLDING):
        return None
    states = guard_states(rollout)
    broken = [one for one in states if one.state == BROKEN]
    if broken:
        return RolloutDecision(RolloutVerdict.ROLL_BACK, broken[0].sentence, _figures(broken[0]))
    if rollout.plan.mode is Mode.AB:
        if not all(one.state == KEPT for one in states):
            return None
        return _end(rollout, "; ".join(one.sentence for one in states), states)
    if rollout.candidate_calls - rollout.step_from < rollout.plan.calls:
        return None
    leaning = [one for one in states if one.leans]
    if leaning:
        return (
            RolloutDecision(
                RolloutVerdict.HOLD,
                f"not shown to be broken, but on the wrong side: {leaning[0].sentence}",
                _figures(leaning[0]),
            )
            if rollout.stage is Stage.RUNNING
            else None
        )
    calls = rollout.candidate_calls - rollout.step_from
    seen = f"{calls:,} calls at {rollout.share:.0%}, and no guard leans the wrong way"
    if rollout.step + 1 < len(rollout.plan.steps):
        return RolloutDecision(RolloutVerdict.STEP, seen, {"calls": float(rollout.candidate_calls)})
    return _end(rollout, f"{seen}. {'; '.join(one.sentence for one in states)}", states)


def _end(rollout: Rollout, reason: str, states: tuple[GuardState, ...]) -> RolloutDecision:
    verdict = RolloutVerdict.PROMOTE if rollout.plan.promote else RolloutVerdict.FINISH
    return RolloutDecision(verdict, reason, _figures(states[0]))


def _figures(state: GuardState) -> dict[str, float]:
    found = {"low": state.low, "high": state.high, "count": float(state.count)}
    return found if state.estimate is None else {"estimate": state.estimate, **found}
