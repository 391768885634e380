"""The gate's error rates, by fewer trials than the bench makes, with fixed seeds."""

from __future__ import annotations

from math import sqrt

import pytest

from bench import gate
from bench.learning_gate import learning_figures

TRIALS = 400
CHANCE = 3.3  # standard deviations that a rate of so many trials may be off


def most(rate: float, trials: int = TRIALS) -> float:
    return rate + CHANCE * sqrt(rate * (1 - rate) / trials)


@pytest.mark.parametrize(("rows", "disagreement"), [(50, 0.2), (300, 0.04), (gate.ROWS, 0.1)])
def test_of_two_equal_models_at_most_one_in_twenty_is_called_better(rows: int, disagreement: float):
    found = gate.rates(lambda chance: gate.accuracies(chance, rows, 0.0, disagreement), TRIALS)
    assert found["better"] <= most(0.05)
    assert found["worse"] <= most(0.05)
    assert found["cannot tell"] >= 1 - 2 * most(0.05)


@pytest.mark.parametrize("sentences", [40, 300])
def test_so_it_is_where_f1_is_compared_by_the_paired_bootstrap(sentences: int):
    found = gate.rates(lambda chance: gate.entity_scores(chance, sentences), 100)
    assert found["better"] <= most(0.05, 100)
    assert found["worse"] <= most(0.05, 100)


@pytest.mark.parametrize("disagreement", [0.04, 0.08, 0.19])
def test_two_points_on_3080_rows_are_found_as_often_as_computed(disagreement: float):
    found = gate.rates(lambda chance: gate.accuracies(chance, gate.ROWS, 0.02, disagreement), TRIALS)
    expected = gate.power(gate.ROWS, 0.02, disagreement)
    assert expected >= 0.8
    assert found["better"] == pytest.approx(expected, abs=CHANCE * sqrt(expected * (1 - expected) / TRIALS) + 0.01)
    assert found["worse"] == 0.0


def test_a_loss_of_the_margin_is_seldom_called_not_worse():
    found = gate.rates(lambda chance: gate.accuracies(chance, 1000, -0.02, 0.1), TRIALS, margin=0.02)
    assert found["not worse"] <= most(0.05)
    assert gate.rates(lambda chance: gate.accuracies(chance, 3000, 0.0, 0.1), 50, margin=0.02)["not worse"] >= 0.5


def test_a_loop_by_better_seldom_promotes_a_worse_version_and_ends_near_the_other():
    found = {(one.name, one.note.split(",")[0]): one.value for one in learning_figures(TRIALS)}
    loops = f"{14} steps of {300} rows"
    worse = {
        word: found[f"loops by {word} that promote a worse version", loops] for word in ("better", "at-least-as-good")
    }
    ends = {word: found[f"accuracy after a loop by {word}", loops] for word in worse}
    assert worse["better"] < 0.2 < 0.5 < worse["at-least-as-good"]
    assert ends["better"] == pytest.approx(ends["at-least-as-good"], abs=0.01)
