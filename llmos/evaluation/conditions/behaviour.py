"""All tests of a behaviour suite pass on the candidate, before it is promoted."""

from __future__ import annotations

from llmos.abi.error import LlmosError
from llmos.abi.gate import Requirement
from llmos.evaluation.behaviour import run_suite
from llmos.evaluation.conditions.condition import Checked, GateFacts


def check(requirement: Requirement, facts: GateFacts) -> Checked:
    """The share of cases that hold is the number; a suite that cannot be run is not met, and says why."""
    assert facts.evaluator is not None, "a suite asks the evaluator"
    try:
        result = run_suite(facts.evaluator, requirement.argument, "candidate")
    except LlmosError as error:
        return Checked(False, error.message)
    return Checked(result.is_passed, result.summary(), 1 - result.failure_count / result.cases)
