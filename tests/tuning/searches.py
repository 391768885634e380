"""Searches played without training: a trial's metric is a number that its settings give."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llmos.tuning.halving import HalvingPlan, Joins, Sample, apart, decide
from llmos.tuning.history import Begun, Chosen, Decision, Dropped, History, Reached, Record, VersionMade, history_of

Answer = Callable[[int, int], float | None]  # trial, rung -> its metric; None: it fails


def number_only(number: int, history: History) -> dict[str, object]:
    return {"method": "full", "number": number}


def outcome_of(plan: HalvingPlan, decision: Decision, answer: Answer, seconds: float = 10.0) -> Record:
    if isinstance(decision, Chosen):
        return VersionMade(decision.trial, "mood:1")
    rung = 0 if isinstance(decision, Begun) else decision.rung
    metric = answer(decision.trial, rung)
    if metric is None:
        return Dropped(decision.trial, "failed", "it diverged", seconds)
    share = plan.shares[rung] - (plan.shares[rung - 1] if rung else 0.0)
    return Reached(decision.trial, rung, metric, 2.0 + seconds * share, seconds * share)


def played(
    plan: HalvingPlan, answer: Answer, sample: Sample = number_only, seconds: float = 10.0, joins: Joins = apart
) -> list[Record]:
    """The records of a whole search."""
    return list(steps(plan, answer, [], sample, seconds, joins))


def steps(
    plan: HalvingPlan,
    answer: Answer,
    before: list[Record],
    sample: Sample = number_only,
    seconds: float = 10.0,
    joins: Joins = apart,
) -> Iterator[Record]:
    """All records of a search, from those that a journal has on."""
    records: list[Record] = []
    for record in before:
        records.append(record)
        yield record
    while decisions := decide(plan, history_of(records), sample, joins):
        if not history_of(records).pending:
            records += decisions
            yield from decisions
        for decision in decisions:
            record = outcome_of(plan, decision, answer, seconds)
            records.append(record)
            yield record
