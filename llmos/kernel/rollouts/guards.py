"""What each guard of a rollout has seen: broken, kept, or open, with the numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from llmos.abi.rollout import CANDIDATE, PROMOTED, GuardState, Tally
from llmos.abi.rollout_guard import GuardMeasure, RolloutGuard
from llmos.kernel.rollouts.confidence_sequence import interval, is_above, is_below

BROKEN, KEPT, OPEN = "broken", "kept", "open"
NONE = Tally()
WORDS = {
    GuardMeasure.ERRORS: "errors",
    GuardMeasure.AGREEMENT: "agreement with the promoted version",
    GuardMeasure.FEEDBACK: "feedback",
}


def tally_key(guard: RolloutGuard, arm: str) -> str:
    """The name of the tally that the guard reads of this arm; agreement is of both together."""
    return str(guard.measure) if guard.measure is GuardMeasure.AGREEMENT else f"{arm}.{guard.key}"


def is_broken(guard: RolloutGuard, tallies: Mapping[str, Tally], alpha: float) -> bool:
    """Whether the guard is shown to be broken. Of one against a number this costs a few logarithms."""
    own = tallies.get(tally_key(guard, CANDIDATE), NONE)
    if guard.is_beside:
        other = tallies.get(tally_key(guard, PROMOTED), NONE)
        is_near = own.mean is not None and other.mean is not None and _is_past(guard, own.mean - other.mean)
        return is_near and _judge_beside(guard, tallies, alpha).state == BROKEN
    shown = is_above if guard.is_upper else is_below
    return shown(own.count, own.total, guard.bound, alpha)


def judge(guard: RolloutGuard, tallies: Mapping[str, Tally], alpha: float) -> GuardState:
    """The guard's state, by a confidence sequence of this error."""
    return (_judge_beside if guard.is_beside else _judge_alone)(guard, tallies, alpha)


def _judge_alone(guard: RolloutGuard, tallies: Mapping[str, Tally], alpha: float) -> GuardState:
    own = tallies.get(tally_key(guard, CANDIDATE), NONE)
    low, high = interval(own.count, own.total, alpha)
    state = _state(guard, low, high)
    leans = own.mean is not None and _is_past(guard, own.mean)
    sentence = _sentence(guard, state, own.mean, low, high, f"{own.count:,} {_what(guard)}")
    return GuardState(guard.text, state, leans, own.mean, low, high, own.count, sentence)


def _judge_beside(guard: RolloutGuard, tallies: Mapping[str, Tally], alpha: float) -> GuardState:
    """The difference of the arms, each with half of the error: their intervals hold together with the rest of it."""
    own, other = (tallies.get(tally_key(guard, arm), NONE) for arm in (CANDIDATE, PROMOTED))
    own_low, own_high = interval(own.count, own.total, alpha / 2)
    other_low, other_high = interval(other.count, other.total, alpha / 2)
    low, high = own_low - other_high, own_high - other_low
    estimate = None if own.mean is None or other.mean is None else own.mean - other.mean
    state = _state(guard, low, high)
    leans = estimate is not None and _is_past(guard, estimate)
    seen = f"{own.count:,} {_what(guard)} beside {other.count:,}"
    return GuardState(
        guard.text,
        state,
        leans,
        estimate,
        low,
        high,
        min(own.count, other.count),
        _sentence(guard, state, estimate, low, high, seen),
    )


def _is_past(guard: RolloutGuard, value: float) -> bool:
    """Whether a value is on the wrong side of the bound."""
    return value > guard.bound if guard.is_upper else value < guard.bound


def _state(guard: RolloutGuard, low: float, high: float) -> str:
    if guard.is_upper:
        return BROKEN if low > guard.bound else KEPT if high <= guard.bound else OPEN
    return BROKEN if high < guard.bound else KEPT if low >= guard.bound else OPEN


def _what(guard: RolloutGuard) -> str:
    return {GuardMeasure.AGREEMENT: "pairs of answers", GuardMeasure.FEEDBACK: "scores"}.get(guard.measure, "calls")


def _sentence(guard: RolloutGuard, state: str, estimate: float | None, low: float, high: float, seen: str) -> str:
    what = WORDS.get(guard.measure, f"calls over {guard.limit_s:g} s")
    if guard.is_beside:
        what = f"difference of {what}"
    if estimate is None:
        return f"{guard.text}: nothing observed yet ({seen})"
    verdict = {BROKEN: "is broken", KEPT: "is kept", OPEN: "is open"}[state]
    return f"{guard.text} {verdict}: {what} {estimate:.4g} ({low:.4g} to {high:.4g}) of {seen}"
