"""A metric of the test rows, or the lower end of its interval, is on the right side of a number."""

from __future__ import annotations

from difflib import get_close_matches

from llmos.abi.gate import AT_LEAST, LOW, Requirement
from llmos.evaluation.conditions.condition import Checked, GateFacts


def check(requirement: Requirement, facts: GateFacts) -> Checked:
    name, metrics = requirement.subject, facts.result.metrics
    if name not in metrics:
        near = ", ".join(get_close_matches(name, metrics))
        hint = f"near: {near}" if near else f"there are: {', '.join(metrics)}"
        return Checked(False, f"{name} is no metric of {facts.task} ({hint})")
    interval = facts.result.intervals.get(name)
    if requirement.is_low and interval is None:
        return Checked(False, f"{name} has no interval", metrics[name])
    value = interval.low if requirement.is_low and interval is not None else metrics[name]
    is_met = requirement.is_met_by(value)
    shown = f"{name}.{LOW}" if requirement.is_low else name
    limit = "least" if requirement.operator == AT_LEAST else "most"
    beyond = "below" if requirement.operator == AT_LEAST else "above"
    said = (
        f"{shown} {value:.4f}, at {limit} {requirement.number:g}"
        if is_met
        else _sentence(shown, value, beyond, limit, requirement.number)
    )
    low, high = (interval.low, interval.high) if interval is not None else (None, None)
    return Checked(is_met, said, value, low, high)


def _sentence(name: str, value: float, beyond: str, limit: str, number: float) -> str:
    return f"{name} {value:.4f} is {beyond} the {limit} that was asked, {number:.4f}"
