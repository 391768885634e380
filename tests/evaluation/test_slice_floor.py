"""The floor under slices, as a requirement of the gate."""

from __future__ import annotations

import numpy as np
import pytest

from llmos.abi.error import BadInput
from llmos.abi.gate import parse_requirement
from llmos.data.row import LabelRow
from llmos.evaluation.conditions.condition import Checked, GateFacts
from llmos.evaluation.conditions.slices import check
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.judge import Judge
from llmos.tasks import Settings
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch
LANGUAGES = ["en"] * 60 + ["de"] * 30 + ["fr"] * 5


class Judging(Judge):
    """Judges labels without a model."""

    task = "classify"
    settings = Settings(("no", "yes"))


def checked(text: str) -> Checked:
    """Every English row is right, 24 of 30 German ones, no French one."""
    right = [True] * 60 + [i >= 6 for i in range(30)] + [False] * 5
    rows = [LabelRow({"text": f"row {i}"}, ("yes",), "x.csv", i + 1) for i in range(95)]
    predicted = [LabelPrediction(np.array([0.2, 0.8] if one else [0.9, 0.1], np.float32)) for one in right]
    judge = Judging()
    findings = judge.examine(rows, predicted, extras=[{"tongue": one} for one in LANGUAGES])
    facts = GateFacts(
        "classify",
        "accuracy",
        EvaluationResult({"accuracy": 0.9}, {}),
        rows=rows,
        predicted=predicted,
        findings=findings,
        evaluator=judge,  # type: ignore[arg-type]  # the condition only judges
    )
    return check(parse_requirement(text), facts)


def test_one_slice_has_its_floor() -> None:
    found = checked("slice:tongue=de>=0.75")
    assert (found.is_met, found.value) == (True, 0.8)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.8 < found.high
    assert not checked("slice:tongue=de>=0.85").is_met


def test_every_value_of_a_column_has_the_floor_and_rare_ones_are_named() -> None:
    found = checked("slice:tongue>=0.75")
    assert (found.is_met, found.value) == (True, 0.8)
    assert "1 with fewer than 20 rows" in found.sentence
    assert not checked("slice:tongue>=0.9").is_met


def test_what_cannot_be_measured_is_not_met() -> None:
    for text in ("slice:tongue=fr>=0.1", "slice:tongue=es>=0.1", "slice:colour>=0.1"):
        found = checked(text)
        assert (found.is_met, found.value) == (False, None)
    assert "tongue" in checked("slice:tongues=de>=0.1").sentence


def test_the_worst_slice_has_a_floor_of_what_is_shown() -> None:
    assert checked("slice:worst>=0.5").is_met
    assert not checked("slice:worst>=0.999").is_met


def test_a_floor_is_written_with_a_slice_and_a_number() -> None:
    for text in ("slice:language=de", "slice>=0.8", "slice:language=de<=0.8"):
        with fails_with(BadInput, key="require"):
            parse_requirement(text)
    assert str(parse_requirement("slice:language=de >= 80%")) == "slice:language=de>=0.8"
