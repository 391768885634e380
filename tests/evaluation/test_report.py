"""The report page: its first words answer whether the model may be used; entities are marked in their sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmos.data.checks.finding import CheckFinding, Severity, Suspect
from llmos.data.checks.report import CheckReport
from llmos.data.row import LabelRow, TagRow
from llmos.evaluation.evidence import Evidence
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.families.tags import TagPrediction
from llmos.evaluation.judge import Judge
from llmos.evaluation.report.page import page
from llmos.evaluation.report.svg import Series, line_plot
from llmos.evaluation.report.verdict import plain_verdict
from llmos.tasks import Settings

pytestmark = pytest.mark.torch
LABELS = ("a", "b")


class Judging(Judge):
    """Judges predictions without a model."""

    def __init__(self, task: str, settings: Settings) -> None:
        self.task, self.settings = task, settings


def of_labels(right: Sequence[bool], true: Sequence[str] = (), **more: Any) -> Evidence:
    """Evidence of labels that are right or wrong as said; Any: fields of the evidence."""
    rows = [
        LabelRow({"text": f"row {i}"}, ((true or LABELS * len(right))[i],), "rows.csv", i + 1)
        for i in range(len(right))
    ]
    shares = np.array(
        [[0.9, 0.1] if (row.labels[0] == "a") == one else [0.1, 0.9] for row, one in zip(rows, right, strict=True)]
    )
    predicted = [LabelPrediction(one.astype(np.float32)) for one in shares]
    judge = Judging("classify", Settings(LABELS))
    counts = {"train": 9, "test": len(rows)}
    return Evidence(
        "m on b:1",
        "classify",
        "accuracy",
        judge.judge(rows, predicted),
        counts,
        findings=judge.examine(rows, predicted),
        **more,
    )


def test_a_promoted_model_without_limits_may_be_used() -> None:
    found = plain_verdict(of_labels([i % 20 > 0 for i in range(400)], is_promoted=True))
    assert (found.word, found.limits) == ("Yes", ())
    assert found.number.startswith("accuracy 0.950, between 0.924 and 0.967")


def test_leaks_few_rows_and_weak_labels_are_limits() -> None:
    right = [i % 20 > 0 if i % 2 else i % 8 == 0 for i in range(90)]
    found = plain_verdict(of_labels(right, is_promoted=True, leaks=("3 of the test rows are also in train",)))
    assert found.word in ("Yes, within limits", "No")
    assert len([one for one in found.limits if "3 of the test rows" in one or "Only 90" in one]) == 2


def test_a_model_that_a_constant_answer_equals_may_not_be_used() -> None:
    true = ["a"] * 190 + ["b"] * 10
    found = plain_verdict(of_labels([label == "a" for label in true], true, is_promoted=True))
    assert found.answer == "no"
    assert "'a'" in found.limits[0]


def test_what_the_gate_refused_is_no_and_what_it_could_not_tell_is_said_so() -> None:
    right = [i % 20 > 0 for i in range(400)]
    unmet = {"require": "f1>=0.99", "is_met": False, "sentence": "f1 0.95 is below"}
    refused = plain_verdict(of_labels(right, is_promoted=False, gate={"conditions": [unmet]}))
    assert refused.answer == "no"
    assert "f1>=0.99" in refused.limits[0]
    unsure = {"require": "better", "is_met": False, "sentence": "cannot tell", "standing": "cannot tell"}
    assert plain_verdict(of_labels(right, is_promoted=False, gate={"conditions": [unsure]})).answer == "unclear"
    assert plain_verdict(of_labels(right)).word == "Cannot tell"


def test_entities_are_marked_in_their_sentence_and_their_text_is_escaped() -> None:
    settings = Settings(("O", "B-X", "I-X"))
    rows = [TagRow({"tokens": ["<i>", "one", "two"]}, ("O", "B-X", "I-X"), "f.conll", i) for i in range(3)]
    predicted = [TagPrediction(np.eye(3, dtype=np.float32)[[1, 1, 0]]) for _ in rows]
    judge = Judging("tag", settings)
    html = page(
        Evidence("t", "tag", "f1", judge.judge(rows, predicted), {"test": 3}, findings=judge.examine(rows, predicted))
    )
    assert "<i>" not in html.replace('<i style="width', "")
    assert '<mark class="miss">one two<small>X · boundary</small></mark>' in html
    assert '<mark class="miss">&lt;i&gt;<small>X · invented</small></mark>' in html


def test_an_error_is_marked_with_what_the_check_of_its_dataset_found(tmp_path: Path) -> None:
    evidence = of_labels([True, False])
    assert evidence.findings is not None
    wrong = evidence.findings.outcomes[1].id
    found = CheckFinding("suspects", Severity.WARNING, "x", (wrong,), suspects=(Suspect(wrong, "b", "<a>", 0.9),))
    CheckReport("rows@1", "classify", {"test": 2}, "", (), (), {}, (found,)).write(tmp_path)
    html = page(replace(evidence, findings=evidence.findings.with_checks([str(tmp_path), str(tmp_path / "none")])))
    assert "data check: suspects, likelier: &lt;a&gt; (0.90)" in html


def test_a_plot_takes_its_colours_from_the_page_and_escapes_its_names() -> None:
    drawn = line_plot([Series("<b>", [(1, 0.5), (2, 0.75)], band=[(1, 0.4, 0.6), (2, 0.7, 0.8)])], "rows", "f1")
    assert "<b>" not in drawn
    assert "#" not in drawn
    assert drawn.count("<circle") == 2
    assert line_plot([], "x", "y") == ""
    assert "NaN" not in line_plot([Series("one", [(3.0, 3.0)])], "x", "y")
