"""Burn rates: how fast a budget is used, and when that is worth waking somebody.

Multi-window, multi-burn-rate alerts with the numbers of the Site Reliability Workbook, chapter 5: a budget of 30 days
burns when a long window and a short one both use it too fast. The short one ends the alert soon after its cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmos.abi.slo import WINDOWS, ObjectiveState, SloObjective
from llmos.kernel.slos.slo_counts import SloCounts

LEAST_BAD = 5  # bad calls in the long window: of few calls, a single failure is a high rate


@dataclass(frozen=True, slots=True)
class BurnRule:
    """The budget burns if both windows use it `factor` times as fast as it would last 30 days."""

    severity: str
    long: str
    short: str
    factor: float


PAGE, TICKET = "page", "ticket"
RULES = (
    BurnRule(PAGE, "1h", "5m", 14.4),  # 2 % of the budget in an hour
    BurnRule(PAGE, "6h", "30m", 6.0),  # 5 % in six hours
    BurnRule(TICKET, "3d", "6h", 1.0),  # 10 % in three days
)


def objective_state(
    objective: SloObjective, place: int, counts: SloCounts, now: float, was: ObjectiveState | None = None
) -> ObjectiveState:
    """How an objective stands now; `place` is that of its bad calls among the counters, `was` how it stood before."""
    sums = {window: counts.within(now, seconds) for window, seconds in WINDOWS.items()}
    bad = {window: row[place] for window, row in sums.items()}
    rates = {window: bad[window] / row[0] / objective.budget if row[0] else 0.0 for window, row in sums.items()}
    severity = _severity(rates, bad)
    calls, all_bad = sums["30d"][0], bad["30d"]
    left = 1.0 - all_bad / (objective.budget * calls) if calls else 1.0
    since = None if not severity else was.since if was is not None and was.severity == severity else now
    return ObjectiveState(objective.text, objective.budget, calls, all_bad, left, rates, severity, since)


def _severity(rates: Mapping[str, float], bad: Mapping[str, int]) -> str:
    for rule in RULES:
        is_fast = rates[rule.long] > rule.factor and rates[rule.short] > rule.factor
        if is_fast and bad[rule.long] >= LEAST_BAD:
            return rule.severity
    return ""
