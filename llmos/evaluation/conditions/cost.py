"""What the candidate costs: the time of one row alone, and the bytes of its own files."""

from __future__ import annotations

from statistics import median
from time import perf_counter

from llmos.abi.gate import Requirement
from llmos.evaluation.conditions.condition import Checked, GateFacts

TIMED_ROWS = 50
WARM_ROWS = 3
TIMED_SECONDS = 30.0
MB = 1e6


def check_latency(requirement: Requirement, facts: GateFacts) -> Checked:
    """The median over up to 50 test rows evenly out of all, each alone, after a few that are not counted.

    Measured with the trainer's threads and priority; a serve process that batches and shares the machine differs.
    """
    assert facts.evaluator is not None, "latency is measured by the evaluator"
    step = max(1, len(facts.rows) // TIMED_ROWS)
    times: list[float] = []
    for row in facts.rows[::step][:TIMED_ROWS]:
        began = perf_counter()
        facts.evaluator.predict([row])
        times.append(1000 * (perf_counter() - began))
        if sum(times) > 1000 * TIMED_SECONDS:
            break
    found = median(times[WARM_ROWS:] or times)
    said = f"{found:.1f} ms for one row alone in the process that trained it (median of {len(times)})"
    return _finding(requirement, found, said, "ms")


def check_size(requirement: Requirement, facts: GateFacts) -> Checked:
    found = facts.size_bytes / MB
    return _finding(requirement, found, f"{found:.1f} MB of its own files", "MB")


def _finding(requirement: Requirement, value: float, said: str, unit: str) -> Checked:
    is_met = requirement.is_met_by(value)
    limit = f"at most {requirement.number:g} {unit}"
    return Checked(is_met, f"{said}, {limit}" if is_met else f"{said}, and {limit} was asked", value)
