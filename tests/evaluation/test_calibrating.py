"""A head's calibration from predictions on validation rows, and what evidence says of it on test rows."""

from __future__ import annotations

import numpy as np
import pytest

from llmos.data.row import LabelRow, TagRow
from llmos.evaluation.calibrate import fit
from llmos.evaluation.calibration import temper
from llmos.evaluation.calibration_evidence import is_out_of_scope, measure
from llmos.evaluation.calibration_page import section
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.families.tags import TagPrediction
from llmos.tasks import Rendered, Settings, task

pytestmark = pytest.mark.torch
LABELS = ("a", "b", "c", "oos")
HEAT = 2.5  # what the logits of these models were multiplied by


def texts(names: list[tuple[str, ...]], *, is_multi: bool = False) -> list[LabelRow]:
    return [LabelRow({"text": f"text {i}"}, one, "rows.csv", i, is_multi) for i, one in enumerate(names, 1)]


def one_label(seed: int, count: int) -> tuple[list[LabelRow], list[LabelPrediction]]:
    """Rows whose labels follow a calibrated model, and what it says when its logits are too large."""
    chance = np.random.default_rng(seed)
    shares = temper(np.exp(chance.normal(0, 2.0, (count, 4))), 1.0)
    true = np.minimum((shares.cumsum(-1) < chance.random((count, 1))).sum(-1), 3)
    said = temper(shares, 1 / HEAT).astype(np.float32)
    return texts([(LABELS[i],) for i in true]), [LabelPrediction(one) for one in said]


def many_labels(seed: int, count: int) -> tuple[list[LabelRow], list[LabelPrediction]]:
    chance = np.random.default_rng(seed)
    logits = chance.normal(0, 3.0, (count, 4))
    true = chance.random((count, 4)) < 1 / (1 + np.exp(-logits))
    said = (1 / (1 + np.exp(-HEAT * logits))).astype(np.float32)
    rows = texts([tuple(np.array(LABELS)[one]) for one in true], is_multi=True)
    return rows, [LabelPrediction(one) for one in said]


def with_calibration(settings: Settings, rows: list[LabelRow], predicted: list[LabelPrediction]) -> Settings:
    made = fit("classify", rows, predicted, settings)
    return Settings(settings.labels, settings.options, settings.max_tokens, made)


def test_scores_of_one_label_are_calibrated_and_promises_hold_on_other_rows() -> None:
    settings = with_calibration(Settings(LABELS, {"abstain": 0.1}), *one_label(1, 3000))
    assert settings.calibration is not None
    assert settings.calibration.temperature == pytest.approx(HEAT, rel=0.1)
    assert settings.calibration.abstain == 0.1
    found = measure("classify", *one_label(2, 4000), settings)
    assert found["before"]["error"] > 0.1
    assert found["after"]["error"] < 0.02
    assert found["after"]["loss"] < found["before"]["loss"]
    own = next(one for one in found["abstain"]["risks"] if one["promised"] == 0.1)
    assert own["share"] < 0.1
    assert 0.1 < own["answered"] / own["rows"] < 1
    assert own["kept"]
    for one in found["sets"]:
        assert one["kept"]
        assert one["covered"] == pytest.approx(one["promised"], abs=0.03)
        assert 1 <= one["mean_size"] <= 4


def test_a_model_that_is_calibrated_already_keeps_its_scores_and_evidence_says_so() -> None:
    rows, said = one_label(21, 400)
    true = [LabelPrediction(one.astype(np.float32)) for one in temper(np.stack([x.probabilities for x in said]), HEAT)]
    settings = with_calibration(Settings(LABELS), rows, true)
    assert settings.calibration is not None
    assert settings.calibration.temperature == 1.0
    assert settings.calibration.refused_temperature == pytest.approx(1.0, abs=0.25)
    found = measure("classify", rows, true, settings)
    assert found["refused_temperature"] == settings.calibration.refused_temperature
    assert "beyond chance" in section(found, "")


def test_serving_withholds_the_rows_that_evidence_counts_as_withheld() -> None:
    settings = with_calibration(Settings(LABELS, {"abstain": 0.1}), *one_label(3, 3000))
    rows, predicted = one_label(4, 300)
    found = measure("classify", rows, predicted, settings)
    own = next(one for one in found["abstain"]["risks"] if one["promised"] == 0.1)
    answers = [
        task("classify").parse([float(x) for x in np.log(one.probabilities)], Rendered([]), settings, {})
        for one in predicted
    ]
    assert sum(not one["abstained"] for one in answers) == own["answered"]
    wrong = [one["label"] != row.labels[0] for one, row in zip(answers, rows, strict=True) if not one["abstained"]]
    assert sum(wrong) == own["wrong"]


def test_too_few_rows_for_a_promise_say_how_many_would_do() -> None:
    settings = with_calibration(Settings(LABELS, {"abstain": 0.02}), *one_label(5, 60))
    assert settings.calibration is not None
    assert "60 validation rows do not suffice" in settings.calibration.why_not
    assert "it takes about" in settings.calibration.why_not or "do not help" in settings.calibration.why_not
    assert measure("classify", *one_label(6, 500), settings)["abstain"]["why_not"] == settings.calibration.why_not


def test_several_labels_have_one_temperature_and_thresholds_for_a_precision() -> None:
    settings = with_calibration(Settings(LABELS, {"multi_label": True, "precision": 0.95}), *many_labels(7, 1500))
    assert settings.calibration is not None
    assert settings.calibration.temperature == pytest.approx(HEAT, rel=0.1)
    found = measure("classify", *many_labels(8, 3000), settings)
    assert found["after"]["error"] < 0.02 < found["before"]["error"]
    assert "sets" not in found
    for one in found["precision"]["labels"].values():
        assert one["precision"] > 0.92
        assert one["kept"] > 0.3


def test_tags_are_calibrated_by_word_and_words_without_a_token_do_not_count() -> None:
    chance = np.random.default_rng(9)
    rows, predicted = [], []
    for line in range(200):
        shares = temper(np.exp(chance.normal(0, 2.0, (6, 3))), 1.0)
        true = np.minimum((shares.cumsum(-1) < chance.random((6, 1))).sum(-1), 2)
        said = temper(shares, 1 / HEAT).astype(np.float32)
        rows.append(TagRow({"tokens": list("abcdef")}, tuple(("O", "B-X", "I-X")[i] for i in true), "f", line))
        predicted.append(TagPrediction(said, frozenset({0})))
    made = fit("tag", rows, predicted, Settings(("O", "B-X", "I-X")))
    assert made is not None
    assert made.temperature == pytest.approx(HEAT, rel=0.15)
    found = measure("tag", rows, predicted, Settings(("O", "B-X", "I-X"), calibration=made))
    assert found["after"]["decisions"] == 1000
    assert found["after"]["error"] < 0.04 < found["before"]["error"]
    assert "abstain" not in found


def test_a_task_without_labels_has_no_calibration() -> None:
    assert fit("similarity", [], [], Settings()) is None
    assert measure("similarity", [], [], Settings()) == {}


def test_a_learned_label_out_of_scope_is_told_from_the_others() -> None:
    found = measure("classify", *one_label(10, 2000), Settings(LABELS))["out_of_scope"]
    assert found["label"] == "oos"
    assert 0.8 < found["auroc"] < 1
    assert found["kept_in_scope"] == pytest.approx(0.95, abs=0.01)
    assert found["interval"][0] < found["recall"] < found["interval"][1]


def test_rows_of_a_label_that_was_not_learned_are_counted_apart() -> None:
    settings = with_calibration(Settings(LABELS[:3], {"oos_label": "odd"}), *_of_three(11, 1000))
    rows, predicted = _of_three(12, 500)
    flat = [LabelPrediction(np.array([0.4, 0.3, 0.3], np.float32))] * 50
    found = measure("classify", rows, predicted, settings, texts([("odd",)] * 50), flat)
    assert found["after"]["decisions"] == 500
    assert found["out_of_scope"]["rows"] == 50
    assert found["out_of_scope"]["recall"] > 0.8
    assert found["out_of_scope"]["withheld"][0]["share"] == 1.0


def _of_three(seed: int, count: int) -> tuple[list[LabelRow], list[LabelPrediction]]:
    chance = np.random.default_rng(seed)
    shares = temper(np.exp(chance.normal(0, 4.0, (count, 3))), 1.0)
    true = np.minimum((shares.cumsum(-1) < chance.random((count, 1))).sum(-1), 2)
    return texts([(LABELS[i],) for i in true]), [LabelPrediction(one.astype(np.float32)) for one in shares]


@pytest.mark.parametrize("label", ["oos", "OOS", "out_of_scope", "Out of scope", "none"])
def test_known_names_of_rows_out_of_scope(label: str) -> None:
    assert is_out_of_scope(label, Settings())
    assert not is_out_of_scope(label, Settings(options={"oos_label": "other"}))
    assert is_out_of_scope("other", Settings(options={"oos_label": "other"}))
    assert not is_out_of_scope("delivery", Settings())


def test_the_section_of_the_report_says_what_was_promised_and_observed() -> None:
    settings = with_calibration(Settings(LABELS, {"precision": 0.9}), *one_label(13, 2000))
    found = measure("classify", *one_label(14, 1000), settings)
    page = section(found, "<svg></svg>")
    for said in (
        "Calibration",
        "Answers withheld",
        "Sets of labels",
        "precision of 90.0 %",
        "Out of scope: oos",
        "holds",
    ):
        assert said in page
    assert "<svg></svg>" in page
    assert section({}, "") == ""
