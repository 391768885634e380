"""Metrics against hand-counted cases, and the page that shows them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llmos.data.row import LabelRow, TagRow
from llmos.evaluation.evidence import Evidence
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.families.tags import TagPrediction
from llmos.evaluation.metrics import judge, primary_metric
from llmos.evaluation.report.page import page
from llmos.tasks import Settings
from llmos.training.checkpoint import EpochRecord

pytestmark = pytest.mark.torch


def given(*shares: list[float]) -> list[LabelPrediction]:
    return [LabelPrediction(np.array(one, dtype=np.float32)) for one in shares]


def texts(*labels: str | tuple[str, ...]) -> list[LabelRow]:
    return [
        LabelRow(
            {"text": f"text {i}"}, one if isinstance(one, tuple) else (one,), "rows.csv", i, isinstance(one, tuple)
        )
        for i, one in enumerate(labels, 1)
    ]


def test_one_label_is_counted_by_class_and_over_all() -> None:
    settings = Settings(("a", "b"))
    rows, predicted = texts("a", "a", "b", "b"), given([0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9])
    judged = judge("classify", rows, predicted, settings)
    assert list(judged.metrics)[:2] == ["accuracy", "f1"]
    assert judged.metrics["accuracy"] == primary_metric("classify", rows, predicted, settings) == 0.75
    assert judged.per_class["b"] == {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": 0.8, "support": 2.0}
    assert judged.metrics["f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert judged.metrics["micro_f1"] == 0.75
    assert judged.confusion == ((1, 1), (0, 2))
    (mistake,) = judged.mistakes
    assert (mistake.text, mistake.expected, mistake.given, mistake.line) == ("text 2", "a", "b", 2)


def test_many_labels_are_right_only_all_together() -> None:
    settings = Settings(("a", "b"), {"multi_label": True})
    rows, predicted = texts(("a",), ("a", "b"), ()), given([0.9, 0.1], [0.9, 0.4], [0.1, 0.2])
    judged = judge("classify", rows, predicted, settings)
    assert judged.metrics["accuracy"] == primary_metric("classify", rows, predicted, settings) == pytest.approx(2 / 3)
    assert judged.per_class["b"]["recall"] == 0
    assert [one.given for one in judged.mistakes] == ["a"]


def tagged(tags: list[str], settings: Settings) -> TagPrediction:
    return TagPrediction(np.eye(len(settings.labels), dtype=np.float32)[[settings.labels.index(tag) for tag in tags]])


def test_tags_are_counted_by_whole_entity_as_seqeval_does() -> None:
    settings = Settings(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    rows = [
        TagRow({"tokens": ["Ada", "Bell", "in", "York"]}, ("B-PER", "I-PER", "O", "B-LOC"), "f", 1),
        TagRow({"tokens": ["Rome"]}, ("B-LOC",), "f", 2),
    ]
    predicted = [tagged(["B-PER", "O", "O", "I-LOC"], settings), tagged(["B-LOC"], settings)]
    judged = judge("tag", rows, predicted, settings)
    assert next(iter(judged.metrics)) == "f1"
    assert judged.metrics["f1"] == primary_metric("tag", rows, predicted, settings) == pytest.approx(2 / 3)
    assert judged.per_class["PER"]["f1"] == 0
    assert judged.per_class["LOC"]["f1"] == 1
    assert judged.metrics["accuracy"] == pytest.approx(3 / 5)
    assert judged.confusion == ((1, 0, 0), (0, 2, 0), (1, 0, 1))
    assert (judged.mistakes[0].expected, judged.mistakes[0].given) == (
        "PER: Ada Bell; LOC: York",
        "PER: Ada; LOC: York",
    )


def test_rows_without_entities_give_zeros_and_no_nan() -> None:
    settings = Settings(("O", "B-PER", "I-PER"))
    rows = [TagRow({"tokens": ["it", "rains"]}, ("O", "O"), "f", 1)]
    predicted = [tagged(["O", "O"], settings)]
    metrics = judge("tag", rows, predicted, settings).metrics
    assert metrics.pop("accuracy") == 1.0
    assert set(metrics.values()) == {0.0}
    assert primary_metric("tag", rows, predicted, settings) == 0.0


def test_a_label_may_be_called_like_an_average() -> None:
    rows, shares = texts("accuracy", "macro avg", "weighted avg"), given([1, 0, 0], [0, 1, 0], [0, 1, 0])
    judged = judge("classify", rows, shares, Settings(("accuracy", "macro avg", "weighted avg")))
    assert judged.per_class["accuracy"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1.0}
    assert judged.per_class["macro avg"]["precision"] == 0.5
    assert judged.metrics["accuracy"] == pytest.approx(2 / 3)


def evidence(labels: tuple[str, ...]) -> Evidence:
    rows = [
        LabelRow({"text": "<script>alert(1)</script>"}, (label,), "/data/rows.csv", i) for i, label in enumerate(labels)
    ]
    shares = given(*np.roll(np.eye(len(labels)), 1, axis=1).tolist())
    judged = judge("classify", rows, shares, Settings(labels))
    marks = [EpochRecord(10, 1.0, 0.9, 0.5), EpochRecord(20, 2.0, 0.4, 0.7)]
    counts = {"train": 9, "validation": 1, "test": len(rows)}
    return Evidence("n on b:1", "classify", "accuracy", judged, counts, "why", False, losses=[(1, 2.0)], marks=marks)


def test_the_page_stands_alone_and_escapes_what_users_wrote(tmp_path: Path) -> None:
    whole = evidence(("plain", "<b>bold</b>", "$x$ & y", "退款", "under_score"))
    assert whole.write(tmp_path) == (("evidence.json", "evidence"), ("report.html", "evidence"))
    html = (tmp_path / "report.html").read_text()
    assert "<script>" not in html
    assert "<b>bold" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<svg") == 2
    assert "$x$ &amp; y" in html
    for outside in ("src=", "<link", "@import", "url("):
        assert outside not in html.replace('clip-path="url(#', "").replace("url(#", "")
    plain = json.loads((tmp_path / "evidence.json").read_bytes())
    assert next(iter(plain["metrics"])) == "accuracy"
    assert plain["rows"]["test"] == 5


def test_a_page_of_many_labels_has_their_confused_pairs_and_no_matrix() -> None:
    html = page(evidence(tuple(f"label_{i}" for i in range(77))))
    assert len(html) < 200_000
    assert "Most confused, of 77 labels" in html
    assert 'class="matrix"' not in html
