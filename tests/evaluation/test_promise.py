"""What a calibration promises as requirements of the gate: the share of wrong answers, and the calibration error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmos.abi.gate import gate_policy
from llmos.data.row import LabelRow
from llmos.evaluation.calibrate import fit
from llmos.evaluation.calibration import temper
from llmos.evaluation.conditions.condition import Checked, GateFacts
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.gate import Decision, decide
from llmos.tasks import Settings

pytestmark = pytest.mark.torch
LABELS = ("a", "b", "c", "d")
NO_CANDIDATE: Any = None  # the conditions predict nothing


def drawn(seed: int, count: int, *, heat: float = 1.0) -> tuple[list[LabelRow], list[LabelPrediction]]:
    """Rows whose labels follow the probabilities; `heat` multiplies the logits of what the model says."""
    chance = np.random.default_rng(seed)
    shares = temper(np.exp(chance.normal(0, 3.0, (count, 4))), 1.0)
    true = np.minimum((shares.cumsum(-1) < chance.random((count, 1))).sum(-1), 3)
    rows = [LabelRow({"text": f"text {i}"}, (LABELS[k],), "rows.csv", i) for i, k in enumerate(true)]
    return rows, [LabelPrediction(one.astype(np.float32)) for one in temper(shares, 1 / heat)]


def decided(
    *require: str, abstain: float | None = None, validation: int = 3000, swapped: bool = False, heat: float = 1.0
) -> tuple[Decision, dict[str, Checked]]:
    settings = Settings(LABELS, {"abstain": abstain} if abstain else {})
    calibration = fit("classify", *drawn(1, validation), settings)
    evaluator = Evaluator(NO_CANDIDATE, "classify", Settings(LABELS, settings.options, 512, calibration))
    rows, raw = drawn(2, 2000, heat=heat)
    if swapped:  # rows of another world: every label is the next one
        rows = [LabelRow(row.input, (LABELS[LABELS.index(row.labels[0]) - 1],), row.file, row.line) for row in rows]
    facts = GateFacts(
        "classify",
        "accuracy",
        EvaluationResult({"accuracy": 0.9}, {}),
        rows=rows,
        predicted=evaluator.apply_calibration(list(raw)),
        raw=raw,
        evaluator=evaluator,
    )
    found = decide(gate_policy(require), facts, abstain=abstain)
    return found, {str(one): checked for one, checked in found.findings}


def test_a_promise_of_the_recipe_is_a_condition_with_its_number() -> None:
    decision, checked = decided(abstain=0.1)
    assert decision.verdict.promote
    own = checked["abstain<=0.1"]
    assert own.value is not None
    assert own.low is not None
    assert own.low < own.value <= 0.1
    assert f"{own.value:.1%}" in decision.verdict.reason


def test_a_promise_that_the_validation_rows_do_not_suffice_for_is_not_met() -> None:
    decision, checked = decided(abstain=0.001, validation=100)
    assert not decision.verdict.promote
    assert "100 validation rows do not suffice" in checked["abstain<=0.001"].sentence
    assert "100 validation rows" in decision.verdict.reason


def test_a_policy_may_ask_for_a_promise_that_the_recipe_did_not() -> None:
    decision, checked = decided("abstain<=0.1")
    assert decision.verdict.promote
    assert checked["abstain<=0.1"].is_met
    few, checked = decided("abstain<=0.001", validation=100)
    assert not few.verdict.promote
    assert "100 validation rows do not suffice to promise" in checked["abstain<=0.001"].sentence


def test_test_rows_that_contradict_a_promise_refuse_it() -> None:
    decision, checked = decided(abstain=0.1, swapped=True)
    own = checked["abstain<=0.1"]
    assert not decision.verdict.promote
    assert own.low is not None
    assert own.low > 0.1


def test_the_same_promise_of_policy_and_recipe_is_one_condition() -> None:
    decision, _ = decided("abstain<=0.1", abstain=0.1)
    assert [str(one) for one, _ in decision.findings].count("abstain<=0.1") == 1


def test_the_calibration_error_is_that_of_the_scores_that_are_served() -> None:
    _, good = decided("calibration_error<=0.03")
    _, bad = decided("calibration_error<=0.03", heat=3.0)
    assert good["calibration_error<=0.03"].is_met
    assert not bad["calibration_error<=0.03"].is_met
    assert (bad["calibration_error<=0.03"].value or 0) > 0.05


@pytest.mark.parametrize("require", ["abstain<=0.1", "calibration_error<=0.02"])
def test_a_task_without_probabilities_does_not_meet_a_promise(require: str) -> None:
    facts = GateFacts("similarity", "spearman", EvaluationResult({"spearman": 0.9}, {}))
    decision = decide(gate_policy([require]), facts)
    assert not decision.verdict.promote
    assert "similarity" in decision.verdict.reason
