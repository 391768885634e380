"""What a calibration promises: the share of wrong answers among those given, and how far scores are off."""

from __future__ import annotations

from llmos.abi.gate import Requirement
from llmos.evaluation.calibration import reliability
from llmos.evaluation.calibration_evidence import measure_risk
from llmos.evaluation.conditions.condition import Checked, GateFacts
from llmos.evaluation.families import calibrated_family
from llmos.tasks.calibration import Calibration


def check_abstain(requirement: Requirement, facts: GateFacts) -> Checked:
    """Met if the validation rows suffice for the promise and the test rows do not contradict it.

    The number is the share of wrong answers that was observed among those given, with its exact 95 % interval; where
    the promise cannot be made, the least share that can be promised.
    """
    risk, family = requirement.number, calibrated_family(facts.task)
    calibration = facts.evaluator.settings.calibration if facts.evaluator is not None else None
    if family is None or calibration is None or not facts.raw:
        return Checked(False, f"a model for {facts.task} promises no share of wrong answers")
    assert facts.evaluator is not None
    answers = family.answers(facts.rows, facts.raw, facts.evaluator.settings)
    if answers is None:
        return Checked(False, f"a model for {facts.task} withholds no answers")
    reached = [pair for pair in calibration.risks if pair[0] <= risk]
    if not reached:
        return Checked(False, _cannot(calibration, risk), calibration.risks[0][0] if calibration.risks else None)
    found = measure_risk(risk, answers.surety >= reached[-1][1], answers.right)
    low, high = found["interval"]
    said = (
        f"{found['share']:.1%} of the {found['answered']:,} answers given are wrong (of {found['rows']:,} test rows; "
        f"95 % interval {low:.1%} to {high:.1%})"
    )
    limit = f"at most {risk:.3g}"
    return Checked(
        found["kept"],
        f"{said}, {limit} is promised" if found["kept"] else f"{said}: more than the {limit} that is promised",
        found["share"],
        low,
        high,
    )


def _cannot(calibration: Calibration, risk: float) -> str:
    if calibration.why_not and risk == calibration.abstain:
        return calibration.why_not
    least = f"they suffice for {calibration.risks[0][0]:g} or more" if calibration.risks else "nor for any such promise"
    return (
        f"{calibration.rows:,} validation rows do not suffice to promise that at most {risk:g} of the answers given "
        f"are wrong; {least}"
    )


def check_calibration_error(requirement: Requirement, facts: GateFacts) -> Checked:
    """The calibration error on the test rows at the served scores, without what chance alone adds to it."""
    family = calibrated_family(facts.task)
    if family is None or facts.evaluator is None:
        return Checked(False, f"a model for {facts.task} has no calibrated scores")
    choices = family.decisions(facts.rows, facts.predicted, facts.evaluator.settings)
    found = reliability(choices.confidence, choices.right)
    said = f"calibration error {found.debiased:.4f} without chance's part ({found.error:.4f} with it)"
    is_met = requirement.is_met_by(found.debiased)
    limit = f"at most {requirement.number:g}"
    return Checked(is_met, f"{said}, {limit}" if is_met else f"{said}, and {limit} was asked", found.debiased)
