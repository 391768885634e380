"""The learning curve and near training rows of a tiny base: labels and tags, and what is too few rows."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import tiny_training

from llmos.abi.row_outcome import RowOutcome
from llmos.data.row import LabelRow, TagRow
from llmos.evaluation.frozen_evidence import TextVectors, measure_curve, with_near_rows
from llmos.evaluation.judge import RowFindings
from llmos.evaluation.slices.measure import SliceReport
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.tasks import Settings

pytestmark = pytest.mark.torch
LABELS = Settings(("red", "blue"))


def rows(count: int, first: int = 0) -> list[LabelRow]:
    names = ("red", "blue")
    return [
        LabelRow({"text": f"{names[i % 2]} thing {i}"}, (names[i % 2],), "rows.csv", i)
        for i in range(first, first + count)
    ]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextVectors:
    return TextVectors(FrozenEncoder(tiny_training.base(tmp_path_factory.mktemp("base")), threads=1))


def test_labels_have_a_curve_where_there_are_rows_enough(encoder: TextVectors) -> None:
    found = measure_curve(encoder, "classify", rows(120), rows(50, 1000), LABELS)
    assert [one["rows"] for one in found["points"]] == [30, 60, 90, 120]
    assert found["ahead"]["rows"] == 240
    assert all(0 <= one["low"] <= one["mean"] <= one["high"] <= 1 for one in found["points"])
    assert measure_curve(encoder, "classify", rows(40), rows(50, 1000), LABELS) == {}


def test_tags_have_a_curve_over_their_sentences(encoder: TextVectors) -> None:
    sentences = [TagRow({"tokens": ["Ada", "saw", f"thing{i}"]}, ("B-X", "O", "O"), "f", i) for i in range(130)]
    found = measure_curve(encoder, "tag", sentences[:85], sentences[85:], Settings(("O", "B-X", "I-X")))
    assert found["metric"] == "f1"
    assert found["points"][-1]["rows"] == 85


def test_the_nearest_training_rows_stand_beside_an_error_and_doubt_its_label(encoder: TextVectors) -> None:
    wrong = RowOutcome(
        0, "id", "t", 1, ("red thing 4",), "blue", "red", 0.0, ("blue -> red",), 0.99, 4.0, ("blue",), ("red",)
    )
    findings = RowFindings((wrong,), SliceReport("accuracy", 0.0, (), None, {}, {}))
    train = [LabelRow({"text": "red thing 4"}, ("red",), "rows.csv", i) for i in range(3)]
    (found,) = with_near_rows(encoder, "classify", [*train, *rows(8, 100)], findings, LABELS).outcomes
    assert [one.target for one in found.nearest] == ["red"] * 3
    assert found.nearest[0].cosine == pytest.approx(1.0, abs=1e-4)
    assert "3 of the 3 nearest" in found.suspect
