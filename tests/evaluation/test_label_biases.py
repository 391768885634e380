"""Temperature and a bias for each label: how they are fitted, when they are taken, and that all servers agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.wire import to_json
from llmos.data.row import LabelRow
from llmos.evaluation.calibrate import fit
from llmos.evaluation.calibration import Floats, Indices, cross_fit_temperature, fit_temperature, temper
from llmos.evaluation.calibration_evidence import measure
from llmos.evaluation.calibration_page import section
from llmos.evaluation.families.labels import LabelPrediction, apply_calibration
from llmos.evaluation.label_biases import cross_fit_biases, fit_biases, fit_penalized, has_enough_rows
from llmos.tasks import Rendered, Settings, task
from llmos.tasks.calibration import BIASES, FILE, PLAIN, TEMPERATURE, Calibration, load_calibration

pytestmark = pytest.mark.torch
LABELS = ("a", "b", "c", "d")
TILT = np.array([1.0, -0.5, 0.0, -0.5])  # what a model adds to its logits wrongly
SEEDS = st.integers(0, 10_000)


def world(seed: int, count: int) -> tuple[Floats, Indices]:
    """Probabilities of a calibrated model, and labels drawn by them."""
    chance = np.random.default_rng(seed)
    shares = temper(np.exp(chance.normal(0, 1.5, (count, 4))), 1.0)
    return shares, np.minimum((shares.cumsum(-1) < chance.random((count, 1))).sum(-1), 3)


def predictions(seed: int, count: int, tilt: Floats = TILT) -> tuple[list[LabelRow], list[LabelPrediction]]:
    shares, true = world(seed, count)
    rows = [LabelRow({"text": f"text {i}"}, (LABELS[label],), "rows.csv", i) for i, label in enumerate(true, 1)]
    return rows, [LabelPrediction(one.astype(np.float32)) for one in temper(shares, 1.0, tilt)]


def fitted(seed: int, count: int, **options: object) -> Settings:
    plain = Settings(LABELS, dict(options))
    return Settings(LABELS, dict(options), calibration=fit("classify", *predictions(seed, count), plain))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, count=st.integers(20, 200), heat=st.floats(0.4, 2.5))
def test_biases_that_are_held_at_zero_leave_the_temperature_alone(seed: int, count: int, heat: float) -> None:
    shares, true = world(seed, count)
    temperature, biases = fit_penalized(temper(shares, heat), true, 1e12)
    assert np.abs(biases).max() < 1e-6
    assert temperature == pytest.approx(fit_temperature(temper(shares, heat), true), rel=1e-4)
    assert temper(shares, heat, np.zeros(4)) == pytest.approx(temper(shares, heat))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, count=st.integers(40, 200), order=st.permutations(range(4)))
def test_labels_in_another_order_have_the_same_biases_in_that_order(seed: int, count: int, order: list[int]) -> None:
    shares, true = world(seed, count)
    shares = temper(shares, 1.3, TILT)
    temperature, biases = fit_biases(shares, true)
    places = np.argsort(order)  # where each label is now
    again = fit_biases(shares[:, order], places[true])
    assert again[0] == pytest.approx(temperature, rel=1e-3)
    assert again[1] == pytest.approx(biases[order], abs=1e-3)


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, count=st.integers(80, 200), strength=st.floats(0.0, 1.0))
def test_what_is_taken_is_never_worse_on_rows_that_it_has_not_seen(seed: int, count: int, strength: float) -> None:
    settings = Settings(LABELS)
    made = fit("classify", *predictions(seed, count, strength * TILT), settings)
    assert made is not None
    taken = BIASES if made.biases else TEMPERATURE if made.temperature != 1.0 else PLAIN
    losses = made.unseen_losses
    assert losses.keys() == {PLAIN, TEMPERATURE, BIASES}
    assert losses[taken] <= losses[PLAIN]
    assert losses[taken] <= losses[TEMPERATURE] or taken == PLAIN  # one that is not shown is not taken
    assert not made.biases or losses[BIASES] == min(losses.values())


def test_the_least_loss_is_found_whatever_the_start() -> None:
    shares, true = world(3, 300)
    shares = temper(shares, 0.5, TILT)
    plain = fit_penalized(shares, true, 4.0)
    other = fit_penalized(shares, true, 4.0, (5.0, np.array([-3.0, 3.0, 2.0, -2.0])))
    assert other[0] == pytest.approx(plain[0], rel=1e-3)
    assert other[1] == pytest.approx(plain[1], abs=1e-3)
    assert plain[1].sum() == pytest.approx(0.0, abs=1e-6)  # the penalty centres them


def test_a_tilt_of_the_labels_is_taken_back() -> None:
    shares, true = world(4, 4000)
    found = cross_fit_biases(temper(shares, 1.0, TILT), true)
    assert found.is_shown
    assert found.biases == pytest.approx(-TILT, abs=0.15)
    assert found.temperature == pytest.approx(1.0, rel=0.1)


def test_rows_that_a_fit_has_not_seen_do_not_choose_their_own_answer() -> None:
    """Labels that are drawn by lot: a fit on the rows themselves would gain, one on others does not."""
    chance = np.random.default_rng(5)
    found = cross_fit_biases(np.full((80, 4), 0.25), chance.integers(0, 4, 80))
    assert not found.is_shown


def test_biases_are_fitted_only_where_each_label_has_rows_enough() -> None:
    assert has_enough_rows(80, 4)
    assert not has_enough_rows(79, 4)
    assert not has_enough_rows(1000, 1)
    assert not has_enough_rows(1000, 0)
    few = fitted(6, 60).calibration
    assert few is not None
    assert not few.biases
    assert few.unseen_losses.keys() == {PLAIN, TEMPERATURE}


def test_the_losses_of_a_temperature_are_the_same_by_both_ways() -> None:
    shares, true = world(7, 200)
    assert cross_fit_temperature(shares, true, np.arange(200)).losses == pytest.approx(
        cross_fit_biases(shares, true).losses[:2]
    )


def test_evidence_and_serving_give_the_same_answers_sets_and_withheld_ones() -> None:
    model = fitted(8, 1500, abstain=0.3)
    assert model.calibration is not None
    assert model.calibration.biases.keys() == set(LABELS)
    rows, raw = predictions(9, 400)
    served = apply_calibration(raw, model.calibration, model)
    logits = [[float(x) for x in np.log(one.probabilities)] for one in raw]
    parse = task("classify").parse
    answers = [parse(one, Rendered([]), model, {"coverage": 0.9}) for one in logits]
    for one, answer in zip(served, answers, strict=True):
        assert [answer["scores"][label] for label in LABELS] == pytest.approx(one.probabilities, abs=1e-5)
    every = [parse(one, Rendered([]), model, {"abstain": False})["label"] for one in logits]
    assert every == [LABELS[int(one.probabilities.argmax())] for one in served]
    assert any(LABELS[int(one.probabilities.argmax())] != label for one, label in zip(raw, every, strict=True))
    found = measure("classify", rows, raw, model)
    own = next(one for one in found["abstain"]["risks"] if one["promised"] == 0.3)
    given = [(row.labels[0], one["label"]) for row, one in zip(rows, answers, strict=True) if not one["abstained"]]
    assert 0 < len(given) == own["answered"] < 400
    assert sum(true != label for true, label in given) == own["wrong"]
    sets = next(one for one in found["sets"] if one["promised"] == 0.9)
    assert sum(row.labels[0] in one["set"] for row, one in zip(rows, answers, strict=True)) / 400 == sets["covered"]
    assert all(label in one["set"] for label, one in zip(every, answers, strict=True))


def test_promises_hold_on_other_rows_and_evidence_says_what_was_chosen() -> None:
    model = fitted(10, 2000, abstain=0.3, precision=0.6)
    rows, raw = predictions(11, 4000)
    found = measure("classify", rows, raw, model)
    assert model.calibration is not None
    assert found["biases"] == model.calibration.biases
    assert found["after"]["error"] < found["before"]["error"]
    assert found["after"]["loss"] < found["before"]["loss"]
    assert found["after"]["accuracy"] > found["before"]["accuracy"]
    assert all(one["kept"] for one in found["abstain"]["risks"])
    assert all(one["covered"] == pytest.approx(one["promised"], abs=0.02) for one in found["sets"])
    page = section(found, "")
    assert BIASES in page
    assert "Biases change answers" in page


def test_a_calibration_of_before_there_were_biases_still_loads(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b'{"temperature":2.0,"rows":1000,"risks":[[0.05,3.8]],"refused_temperature":null}')
    old = load_calibration(tmp_path)
    assert old == Calibration(2.0, 1000, risks=((0.05, 3.8),))
    assert old.scale([2.0, 4.0], ("x", "y")) == [1.0, 2.0]


def test_biases_are_stored_by_label_and_must_be_numbers(tmp_path: Path) -> None:
    made = Calibration(2.0, 1000, biases={"b": 0.5, "a": -0.5})
    (tmp_path / FILE).write_bytes(to_json(made))
    assert load_calibration(tmp_path) == made
    assert made.scale([2.0, 4.0, 0.0], ("a", "b", "c")) == [0.5, 2.5, 0.0]
    (tmp_path / FILE).write_bytes(b'{"temperature": 1.0, "biases": {"a": 1e999}}')
    with pytest.raises(BadInput) as refused:
        load_calibration(tmp_path)
    assert refused.value.detail.get("key") in ("biases", None)
