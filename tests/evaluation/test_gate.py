"""The gate: what it promotes, and what it says of each requirement."""

from __future__ import annotations

import numpy as np
import pytest

from llmos.abi.gate import KINDS, gate_policy
from llmos.evaluation.conditions import CONDITIONS
from llmos.evaluation.conditions.condition import GateFacts, Incumbent
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.gate import Decision, decide
from llmos.evaluation.statistics.comparison import Comparison, mcnemar
from llmos.evaluation.statistics.intervals import wilson

pytestmark = pytest.mark.torch


def against(won: int, lost: int, both: int = 80, neither: int = 20) -> Comparison:
    """Two models on rows of which so many only one of them has right."""
    ours = np.repeat([1.0, 0.0, 1.0, 0.0], [won, lost, both, neither])
    theirs = np.repeat([0.0, 1.0, 1.0, 0.0], [won, lost, both, neither])
    return mcnemar("accuracy", ours, theirs, len(ours))


def decided(
    *require: str,
    incumbent: Incumbent | Comparison | None = None,
    margin: float = 0.0,
    min_metric: float | None = None,
    size_bytes: int = 0,
) -> Decision:
    if isinstance(incumbent, Comparison):
        incumbent = Incumbent("m:1", "classify", incumbent)
    value = 0.9 if incumbent is None or incumbent.comparison is None else incumbent.comparison.ours
    result = EvaluationResult({"accuracy": value, "f1": 0.7}, {}, intervals={"accuracy": wilson(90, 100)})
    facts = GateFacts("classify", "accuracy", result, margin, incumbent, size_bytes)
    return decide(gate_policy(require, margin), facts, min_metric)


def test_every_kind_of_requirement_has_its_condition():
    assert CONDITIONS.keys() == KINDS.keys()


def test_a_first_version_is_promoted_whatever_the_comparison():
    for word in ("at-least-as-good", "not-worse", "better", "better-or-new-labels", "no-comparison"):
        first = decided(word)
        assert (first.verdict.promote, first.verdict.against, first.standing) == (True, None, "first")
    assert first.verdict.reason.startswith("accuracy 0.9000 (95 % interval 0.8256 to 0.9448) on the test rows; ")


@pytest.mark.parametrize(
    ("found", "margin", "standing", "promoted_by"),
    [
        (against(30, 5), 0.0, "better", {"at-least-as-good", "not-worse", "better", "no-comparison"}),
        (against(5, 30), 0.0, "worse", {"no-comparison"}),
        (against(6, 5), 0.0, "cannot tell", {"at-least-as-good", "no-comparison"}),
        (against(0, 0), 0.0, "cannot tell", {"at-least-as-good", "no-comparison"}),
        (against(5, 6), 0.0, "cannot tell", {"no-comparison"}),
        (against(5, 6, both=880), 0.02, "not worse", {"at-least-as-good", "not-worse", "no-comparison"}),
    ],
)
def test_the_comparison_that_is_required_decides(
    found: Comparison, margin: float, standing: str, promoted_by: set[str]
):
    said = {
        word: decided(word, incumbent=found, margin=margin)
        for word in ("at-least-as-good", "not-worse", "better", "no-comparison")
    }
    assert {one.standing for one in said.values()} == {standing}
    assert {word for word, one in said.items() if one.verdict.promote} == promoted_by
    assert all(one.verdict.against == "m:1" for one in said.values())


@pytest.mark.parametrize(
    ("found", "new_labels", "is_met"),
    [
        (against(30, 5), (), True),
        (against(6, 5), (), False),
        (against(6, 5), ("refund",), True),
        (against(5, 5), ("refund",), True),
        (against(5, 6), ("refund",), False),
    ],
)
def test_new_labels_are_a_reason_where_nothing_can_be_told(
    found: Comparison, new_labels: tuple[str, ...], is_met: bool
):
    decision = decided("better-or-new-labels", incumbent=Incumbent("m:1", "classify", found, new_labels=new_labels))
    assert decision.verdict.promote is is_met
    said = "it knows further labels (1), such as refund" in decision.verdict.reason
    assert said is (is_met and bool(new_labels))


def test_the_verdict_has_the_numbers_and_how_many_rows_would_tell():
    said = decided(incumbent=against(7, 5)).verdict.reason
    assert "cannot tell whether better or worse than m:1 with 0.7589: +0.0179 (from -0.0" in said
    assert "mid-p McNemar test); about 1," in said
    assert said.endswith("more test rows would tell, and it is at least as good on these")
    assert "for any number of rows" in decided(incumbent=against(0, 0)).verdict.reason


def test_several_requirements_have_a_number_each_and_the_failed_ones_are_said():
    found = decided("f1>=0.8", "accuracy.low>=0.8", "size_mb<=1", incumbent=against(30, 5), size_bytes=2_500_000)
    assert not found.verdict.promote
    assert "not met: f1 0.7000 is below the least that was asked, 0.8000; 2.5 MB" in found.verdict.reason
    assert "better than" not in found.verdict.reason
    plain = found.plain(0.0)
    assert [one["require"] for one in plain["conditions"]] == [
        "at-least-as-good",
        "f1>=0.8",
        "accuracy.low>=0.8",
        "size_mb<=1",
    ]
    assert [one["is_met"] for one in plain["conditions"]] == [True, False, True, False]
    assert [round(one["value"], 4) for one in plain["conditions"]] == [0.1852, 0.7, 0.8256, 2.5]


def test_the_recipe_s_own_floor_is_one_more_requirement():
    assert decided(min_metric=0.9).verdict.promote
    low = decided(min_metric=0.95, incumbent=against(30, 5))
    assert (low.verdict.promote, "0.9500" in low.verdict.reason) == (False, True)


def test_a_metric_that_there_is_not_is_not_met_and_its_neighbours_are_named():
    assert "f2 is no metric of classify (there are: accuracy, f1)" in decided("f2>=0.1").verdict.reason
    assert "f1 has no interval" in decided("f1.low>=0.1").verdict.reason


def test_the_gate_says_when_it_cannot_compare_and_how_it_did():
    other = decided(incumbent=Incumbent("m:1", "tag"))
    assert (other.verdict.promote, "does another task, tag and not classify" in other.verdict.reason) == (False, True)
    assert decided("no-comparison", incumbent=Incumbent("m:1", "tag")).verdict.promote
    noted = decided(incumbent=Incumbent("m:1", "classify", against(9, 0), "rows of 1 labels ...", ours=0.8))
    assert "on those that the promoted version has not learned from" in noted.verdict.reason
    assert "(rows of 1 labels ...)" in noted.verdict.reason


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_gate_decides_nothing_on_a_number_that_is_none(value: float):
    facts = GateFacts("tag", "f1", EvaluationResult({"f1": value}, {}))
    with pytest.raises(AssertionError):
        decide(gate_policy(), facts)


@pytest.mark.parametrize(
    ("earlier", "margin", "is_met", "said"),
    [
        (against(5, 30), 0.0, False, "that m:1 was tested on: worse, 0."),
        (against(5, 6), 0.0, True, "that m:1 was tested on: cannot tell whether better or worse, 0."),
        (against(5, 30, both=4000), 0.02, True, "that m:1 was tested on: not worse by 0.02 or more, 0."),
        (against(30, 5), 0.0, True, "that m:1 was tested on: better, 0."),
    ],
)
def test_no_comparison_is_met_by_what_is_worse_on_the_earlier_test_rows(
    earlier: Comparison, margin: float, is_met: bool, said: str
):
    incumbent = Incumbent("m:1", "classify", against(30, 5), earlier=earlier)
    for word in ("at-least-as-good", "not-worse", "better", "better-or-new-labels"):
        found = decided(word, incumbent=incumbent, margin=margin)
        assert found.verdict.promote is is_met
        assert said in found.verdict.reason
        assert found.standing == ("better" if is_met else "worse")
        assert ("llmos promote" in found.verdict.reason) is not is_met
    assert decided("no-comparison", incumbent=incumbent, margin=margin).verdict.promote


def test_the_gate_says_why_there_are_no_earlier_test_rows():
    incumbent = Incumbent("m:1", "classify", against(30, 5), earlier_note="they are not known")
    found = decided("better", incumbent=incumbent)
    assert found.verdict.promote
    assert "not compared on the rows that m:1 was tested on: they are not known" in found.verdict.reason
