"""The floor under slices of the test rows: one of them, every value of a facet, or the worst slice that is found."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from llmos.abi.gate import Requirement
from llmos.abi.row_outcome import RowOutcome, parse_slice
from llmos.evaluation.conditions.condition import Checked, GateFacts
from llmos.evaluation.judge import RowFindings
from llmos.evaluation.slices.measure import Slice, slice_of
from llmos.evaluation.slices.worst import WorstSlice

WORST = "worst"
LEAST_ROWS = 20  # fewer rows say too little to require anything of them


def check(requirement: Requirement, facts: GateFacts) -> Checked:
    """The number is the primary metric on these rows alone; of the worst slice, the upper bound that holds for all
    slices that were tried."""
    if facts.findings is None or facts.evaluator is None:
        return Checked(False, "the slices of its rows were not measured")
    named = requirement.argument.strip()
    if named == WORST:
        return _check_worst(requirement, facts.findings)
    outcomes = facts.findings.outcomes
    if "=" in named:
        conditions = parse_slice(named)
        places = [i for i, one in enumerate(outcomes) if one.is_in(conditions)]
        return _check_one(requirement, facts, named, places)
    values = dict.fromkeys(value for one in outcomes for value in one.facets.get(named, ()))
    if not values:
        return Checked(False, f"the test rows are not parted by {named} (they are by {_facets(outcomes, named)})")
    found = [
        (f"{named}={value}", [i for i, one in enumerate(outcomes) if one.is_in([(named, value)])]) for value in values
    ]
    enough = [_check_one(requirement, facts, name, places) for name, places in found if len(places) >= LEAST_ROWS]
    few = len(found) - len(enough)
    if not enough:
        return Checked(False, f"no value of {named} has {LEAST_ROWS} test rows or more. Add test rows")
    worst = min(enough, key=lambda one: one.value or 0.0)
    said = f"{worst.sentence}; the lowest of {len(enough)} values of {named}"
    said += f", and {few} with fewer than {LEAST_ROWS} rows are left out" if few else ""
    return Checked(worst.is_met, said, worst.value, worst.low, worst.high)


def _check_one(requirement: Requirement, facts: GateFacts, name: str, places: Sequence[int]) -> Checked:
    assert facts.findings is not None
    assert facts.evaluator is not None
    if not places:
        near = _facets(facts.findings.outcomes, name)
        return Checked(False, f"no test row is in {name} (they are parted by {near})")
    if len(places) < LEAST_ROWS:
        return Checked(
            False, f"{name} has {len(places)} test rows; a floor needs {LEAST_ROWS} or more. Add rows like these"
        )
    found = slice_of(facts.evaluator, facts.rows, facts.predicted, ("", name), places, facts.metric)
    is_met = requirement.is_met_by(found.metric)
    said = f"{facts.metric} {found.metric:.4f}{_ends(found)} on the {found.rows:,} rows of {name}"
    limit = f"at least {requirement.number:g}"
    sentence = f"{said}, {limit}" if is_met else f"{said}, and {limit} was asked"
    return Checked(is_met, sentence, found.metric, found.low, found.high)


def _check_worst(requirement: Requirement, findings: RowFindings) -> Checked:
    worst: WorstSlice | None = findings.slices.worst
    if worst is None:
        return Checked(False, "there are too few test rows to search them for a worst slice. Add test rows")
    is_met = requirement.is_met_by(worst.high)
    bound = "shown to be" if not is_met else "not shown to be"
    said = (
        f"{worst.name}, the worst of {worst.tried:,} slices, is {bound} below {requirement.number:g}: "
        f"{findings.slices.measure} {worst.value:.4f} of {worst.rows:,} (from {worst.low:.4f} to {worst.high:.4f} with "
        "all of them tried)"
    )
    return Checked(is_met, said, worst.high, worst.low, worst.high)


def _ends(found: Slice) -> str:
    return "" if found.low is None else f" (from {found.low:.4f} to {found.high:.4f})"


def _facets(outcomes: Sequence[RowOutcome], named: str) -> str:
    there = sorted({facet for one in outcomes for facet in one.facets})
    near = get_close_matches(named.partition("=")[0], there)
    return ", ".join(near or there) or "nothing"
