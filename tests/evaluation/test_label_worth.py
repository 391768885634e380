"""A head on frozen vectors says what unlabelled rows may be, and how far it can be believed."""

import random
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow, TagRow
from llmos.evaluation.label_worth import LEAST_ROWS, believe
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.testing import tiny

pytestmark = pytest.mark.torch
WORDS = {"low": ["a", "b", "c"], "high": ["x", "y", "z"], "none": ["k", "l", "m"]}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tiny.write(tmp_path_factory.mktemp("base") / "bert", "bert")
    return FrozenEncoder(ModelPath(Manifest("base", 1, Kind.BASE, "embed", ()), str(folder)), threads=1)


def text_rows(count, seed, labels=("low", "high"), *, is_multi=False):
    drawn = random.Random(seed)
    rows = []
    for i in range(count):
        kind = labels[i % len(labels)]
        text = " ".join(drawn.choices(WORDS[kind], k=6))
        rows.append(StoredRow(f"{seed:08x}{i:08x}", LabelRow({"text": text}, (kind,), "f", i, is_multi)))
    return rows


def test_few_labels_or_one_alone_give_vectors_and_no_belief(encoder):
    for known in (text_rows(LEAST_ROWS - 1, 1), text_rows(20, 1, ("low",))):
        found = believe(encoder, "classify", {"train": known}, text_rows(4, 2))
        assert found.vectors.shape == (4, encoder.size)
        assert (found.probabilities, found.estimate, found.suggestions_of(0)) == (None, None, ())


@pytest.mark.parametrize("is_multi", [False, True])
def test_suggestions_have_the_likeliest_label_first(encoder, is_multi):
    known, pool = text_rows(60, 1, is_multi=is_multi), text_rows(20, 2, is_multi=is_multi)
    found = believe(encoder, "classify", {"train": known}, pool)
    assert found.labels == ("high", "low")
    assert found.probabilities.shape == (20, 2)
    right = 0
    for at, row in enumerate(pool):
        first = found.suggestions_of(at)[0]
        right += first.value == (["low", "high"][at % 2] if not is_multi else list(row.row.labels))
        assert 0 <= first.confidence <= 1
    assert right >= 16


def test_test_rows_measure_and_one_of_an_unknown_label_is_wrong(encoder):
    known = text_rows(60, 1)
    test = text_rows(30, 3)
    found = believe(encoder, "classify", {"train": known, "test": test}, text_rows(4, 2)).estimate
    assert (found.rows, found.where) == (30, "test rows")
    assert found.low <= found.value <= found.high
    assert found.gain[0] <= found.gain[1]
    half = believe(
        encoder, "classify", {"train": known, "test": [*test, *text_rows(30, 4, ("none",))]}, text_rows(4, 2)
    )
    assert half.estimate.value == pytest.approx(found.value / 2)


def test_a_row_of_several_labels_one_of_them_unknown_is_wrong(encoder):
    known, test = text_rows(60, 1, is_multi=True), text_rows(12, 3, is_multi=True)
    strange = [replace(one, row=replace(one.row, labels=(*one.row.labels, "none"))) for one in test]
    found = believe(encoder, "classify", {"train": known, "test": test}, text_rows(4, 2, is_multi=True)).estimate
    assert found.value > 0
    found = believe(encoder, "classify", {"train": known, "test": strange}, text_rows(4, 2, is_multi=True)).estimate
    assert found.value == 0


def test_without_test_rows_each_labelled_row_is_asked_by_a_head_that_did_not_see_it(encoder):
    found = believe(encoder, "classify", {"train": text_rows(23, 1)}, text_rows(4, 2)).estimate
    assert found.rows == 23
    assert found.where != "test rows"


def test_a_head_that_is_always_right_is_promised_no_more_than_its_interval_leaves(encoder):
    few = believe(encoder, "classify", {"train": text_rows(20, 1), "test": text_rows(40, 3)}, text_rows(4, 2)).estimate
    least, most = few.gain
    assert least <= 1 - few.value
    assert most <= 1 - few.low


def tagged_rows(count, seed):
    drawn = random.Random(seed)
    rows = []
    for i in range(count):
        words = [drawn.choice(WORDS["low"]) for _ in range(4)]
        words[i % 4] = drawn.choice(WORDS["high"])
        tags = tuple("B-X" if at == i % 4 else "O" for at in range(4))
        rows.append(StoredRow(f"{seed:08x}{i:08x}", TagRow({"tokens": words}, tags, "f", i)))
    return rows


def test_spans_of_words_are_suggested_with_how_sure_the_whole_row_is(encoder):
    known, pool = tagged_rows(300, 1), tagged_rows(20, 2)
    found = believe(encoder, "tag", {"train": known}, pool)
    assert "B-X" in found.labels
    assert found.probabilities.shape == (20, 2)
    assert np.all((found.probabilities >= 0) & (found.probabilities <= 1))
    right = sum(found.suggestions_of(at)[0].value == [[at % 4, at % 4 + 1, "X"]] for at in range(20))
    assert right >= 14
    assert found.estimate.rows == 300
