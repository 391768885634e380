"""The mathematics of calibration, against exact values and by simulation with fixed seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmos.evaluation.binomial import binomial_cdf, clopper_pearson
from llmos.evaluation.calibration import (
    GRID,
    NEVER,
    Candidates,
    auroc,
    cross_fit_temperature,
    fit_temperature,
    precision_thresholds,
    reliability,
    rows_needed,
    set_thresholds,
    temper,
    threshold_for,
    thresholds_for,
    try_thresholds,
)
from llmos.tasks.calibration import ANY_SURETY

Floats = NDArray[np.float64]
WORLDS = 400  # simulated draws of validation rows


def softmax(logits: Floats) -> Floats:
    grown = np.exp(logits - logits.max(-1, keepdims=True))
    made: Floats = grown / grown.sum(-1, keepdims=True)
    return made


def world(
    chance: np.random.Generator, rows: int, labels: int = 4, spread: float = 2.0
) -> tuple[Floats, NDArray[np.int64]]:
    """Rows whose labels are drawn from their own probabilities: a perfectly calibrated model."""
    shares = softmax(chance.normal(0, spread, (rows, labels)))
    true = (shares.cumsum(-1) < chance.random((rows, 1))).sum(-1)
    return shares, np.minimum(true, labels - 1)


def surety(shares: Floats) -> Floats:
    ranked = np.sort(shares, -1)
    made: Floats = np.log(ranked[:, -1]) - np.log(ranked[:, :-1].sum(-1))
    return made


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.data())
def test_the_binomial_is_that_of_exact_sums(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    share = data.draw(st.floats(0.001, 0.999))
    exact = math.fsum(math.comb(total, i) * share**i * (1 - share) ** (total - i) for i in range(count + 1))
    assert binomial_cdf(count, total, share) == pytest.approx(exact, rel=1e-6, abs=1e-250)


def test_clopper_and_pearson_give_the_interval_of_their_tables() -> None:
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 0.3084971), abs=1e-6)
    assert clopper_pearson(5, 50) == pytest.approx((0.0332751, 0.2181354), abs=1e-6)
    assert clopper_pearson(10, 10) == pytest.approx((0.6915029, 1.0), abs=1e-6)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_temperature_that_logits_were_sharpened_by_is_found(temperature: float) -> None:
    shares, true = world(np.random.default_rng(1), 20_000)
    assert fit_temperature(temper(shares, 1 / temperature), true) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_is_where_the_likelihood_is_greatest() -> None:
    shares, true = world(np.random.default_rng(2), 500)
    found = fit_temperature(shares, true)

    def loss(temperature: float) -> float:
        logs = np.log(temper(shares, temperature))
        return -float(logs[np.arange(500), true].sum() + logs.mean())  # with the one row of unknown label

    assert all(loss(found) <= loss(found * factor) for factor in (0.9, 0.99, 1.01, 1.1))


def test_a_model_that_is_always_right_keeps_a_temperature_over_zero() -> None:
    shares = np.tile([[0.9, 0.1]], (40, 1))
    found = fit_temperature(shares, np.zeros(40, np.int64))
    assert 0.2 < found < 1.0
    assert 0.95 < temper(shares, found)[0, 0] < 1.0


def test_a_temperature_is_taken_from_a_calibrated_model_in_few_draws_of_the_rows() -> None:
    chance = np.random.default_rng(11)
    taken = sum(cross_fit_temperature(*world(chance, 300), np.arange(300)).is_shown for _ in range(100))
    assert binomial_cdf(taken - 1, 100, 0.05) < 0.999


def test_a_temperature_that_helps_is_taken_even_on_few_rows() -> None:
    shares, true = world(np.random.default_rng(12), 100)
    found = cross_fit_temperature(temper(shares, 0.3), true, np.arange(100))
    assert found.is_shown
    assert found.value > 2


def test_decisions_of_one_row_do_not_count_as_many_rows() -> None:
    """Every decision is there twenty times: as rows of their own they would seem to show a temperature."""
    shares, true = world(np.random.default_rng(13), 60)
    often, those, units = np.repeat(temper(shares, 0.85), 20, 0), np.repeat(true, 20), np.repeat(np.arange(60), 20)
    assert cross_fit_temperature(often, those, np.arange(1200)).p < 0.01
    alone = cross_fit_temperature(temper(shares, 0.85), true, np.arange(60))
    assert cross_fit_temperature(often, those, units).p == pytest.approx(alone.p, abs=0.02)


def test_the_debiased_error_of_a_calibrated_model_is_near_nothing() -> None:
    chance = np.random.default_rng(14)
    squares = []
    for _ in range(200):
        shares, true = world(chance, 400)
        good = reliability(shares.max(-1), shares.argmax(-1) == true)
        squares.append(good.debiased)
        assert good.debiased < good.error + 0.02
    assert np.median(squares) < 0.02
    confidence, right = np.full(4000, 0.9), np.arange(4000) % 10 < 7
    assert reliability(confidence, right).debiased == pytest.approx(0.2, abs=0.005)


def test_a_calibrated_model_errs_as_chance_does_and_a_sharpened_one_more() -> None:
    shares, true = world(np.random.default_rng(3), 3000)
    good = reliability(shares.max(-1), shares.argmax(-1) == true)
    assert good.error < good.limit
    assert good.by_chance < good.limit
    assert sum(one.count for one in good.bins) == good.count == 3000
    bad_shares = temper(shares, 0.3)
    bad = reliability(bad_shares.max(-1), bad_shares.argmax(-1) == true)
    assert bad.error > 4 * bad.limit


def test_the_error_of_two_bins_is_counted_by_hand() -> None:
    confidence = np.array([0.6] * 10 + [0.9] * 10)
    right = np.array([True] * 8 + [False] * 2 + [True] * 8 + [False] * 2)
    found = reliability(confidence, right, bins=2)
    assert found.error == pytest.approx((0.2 + 0.1) / 2)
    assert [(one.count, one.accuracy) for one in found.bins] == [(10, 0.8), (10, 0.8)]


@pytest.mark.parametrize(("rows", "risk"), [(300, 0.1), (1000, 0.05)])
def test_a_promise_about_wrong_answers_is_broken_in_few_draws_of_the_rows(rows: int, risk: float) -> None:
    """The true share of wrong answers beyond each chosen threshold is known from many other rows."""
    chance = np.random.default_rng(4)
    many, truth = world(chance, 300_000, spread=5.0)
    order = np.argsort(-surety(many))
    falling = surety(many)[order]
    shares = np.cumsum((many.argmax(-1) != truth)[order]) / np.arange(1, len(order) + 1)
    broken = made = 0
    for _ in range(WORLDS):
        some, true = world(chance, rows, spread=5.0)
        found = threshold_for(try_thresholds(surety(some), some.argmax(-1) == true), risk)
        if found is not None:
            made += 1
            answered = int(np.searchsorted(-falling, -found, side="right"))
            broken += shares[answered - 1] > risk
    assert made > WORLDS // 2
    assert binomial_cdf(int(broken) - 1, WORLDS, 0.05) < 0.999  # at most 5 % of draws, as far as so many can tell


def test_a_promise_holds_for_the_best_of_several_models_chosen_on_the_same_rows() -> None:
    """Ten models that guess: the one with the fewest mistakes on the rows is no better than the others."""
    chance = np.random.default_rng(5)
    broken = 0
    for _ in range(WORLDS):
        right = chance.random((10, 200)) >= 0.1
        best = right[right.sum(-1).argmax()]
        broken += threshold_for(try_thresholds(chance.random(200), best, tries=10), 0.1) is not None
    assert binomial_cdf(broken - 1, WORLDS, 0.05) < 0.999


def test_surer_promises_answer_less_and_more_rows_answer_more() -> None:
    shares, true = world(np.random.default_rng(6), 4000, spread=3.0)
    tried = try_thresholds(surety(shares), shares.argmax(-1) == true)
    made = thresholds_for(tried, (0.02, 0.05, 0.1, 0.5))
    cuts = [cut for _, cut in made]
    assert cuts == sorted(cuts, reverse=True)
    assert made[-1] == (0.5, ANY_SURETY)
    few = try_thresholds(surety(shares)[:40], (shares.argmax(-1) == true)[:40])
    assert len(thresholds_for(few, (0.02, 0.05, 0.1, 0.5))) < len(made)


def test_the_rows_that_a_promise_needs_suffice_for_it() -> None:
    small = Candidates(tuple(range(GRID))[::-1], (10,) * GRID, (0,) * GRID, 20, 1)
    needed = rows_needed(small, 0.05)
    assert needed is not None
    assert 200 < needed < 400  # ln(0.05 / 20) / ln(0.95) answers, twice as many rows, and those of the pilot
    grown = Candidates(small.thresholds, (needed // 2,) * GRID, (0,) * GRID, needed, 1)
    assert threshold_for(grown, 0.05) is not None
    hopeless = Candidates(small.thresholds, (100,) * GRID, (20,) * GRID, 100, 1)
    assert rows_needed(hopeless, 0.05) is None


def test_conformal_sets_have_the_true_label_as_often_as_promised() -> None:
    chance = np.random.default_rng(7)
    inside = []
    for _ in range(WORLDS):
        shares, true = world(chance, 221)
        own = shares[np.arange(221), true]
        ((_, least),) = set_thresholds(own[:-20], (0.9,))
        inside.append(float((own[-20:] >= least).mean()))
    error = np.std(inside) / math.sqrt(WORLDS)
    assert 0.9 - 4 * error < np.mean(inside) < 0.9 + 1 / 202 + 4 * error


def test_a_coverage_that_the_rows_are_too_few_for_is_left_out() -> None:
    made = dict(set_thresholds(np.linspace(0.1, 1.0, 19), (0.5, 0.95, 0.99)))
    assert set(made) == {0.5, 0.95}
    assert made[0.95] == pytest.approx(0.1)


def test_each_label_has_the_least_threshold_of_its_precision() -> None:
    sure = (np.array([0.9] * 40 + [0.6] * 10), np.array([True] * 40 + [False] * 10))
    rare = (np.array([0.95, 0.5]), np.array([True, True]))
    found = precision_thresholds(("sure", "rare"), {"sure": sure, "rare": rare}, 0.9)
    assert found == {"sure": 0.9, "rare": 0.9}  # too rare for its own, so it takes that of both
    bad = (np.array([0.92, 0.91]), np.array([False, True]))
    assert precision_thresholds(("sure", "bad"), {"sure": sure, "bad": bad}, 0.9) == {"sure": 0.9, "bad": NEVER}


def test_scope_is_told_as_often_as_pairs_are_in_order() -> None:
    assert auroc(np.array([0.9, 0.8, 0.4]), np.array([0.5, 0.4])) == pytest.approx((2 + 2 + 0.5) / 6)
    chance = np.random.default_rng(8)
    inside, outside = chance.integers(0, 9, 50).astype(float), chance.integers(0, 7, 40).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    assert auroc(inside, outside) == pytest.approx(float(np.mean(pairs)))
