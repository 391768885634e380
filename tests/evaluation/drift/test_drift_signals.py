"""Drift: quiet weeks are quiet, and a planted shift is found within 500 calls."""

import random

import numpy as np
import pytest

from llmos.abi.monitoring import ObservedInput
from llmos.evaluation.drift.accuracy_estimate import estimate_accuracy
from llmos.evaluation.drift.features import FOURIER, fourier_features
from llmos.evaluation.drift.look import LEVEL, LOOKS_A_WEEK, InputSample, LookBudget, benjamini_hochberg, look_at
from llmos.evaluation.drift.permutation_test import compare_means

DIM = 8


def inputs(chance, count, share=0.5, pieces=1.2, shift=0.0):
    """Inputs of a model of two labels; `pieces` are the tokens of a word, `shift` moves the vectors."""
    made = []
    for _ in range(count):
        words = max(2, int(chance.gammavariate(6, 3)))
        label = "good" if chance.random() < share else "bad"
        tokens = words + sum(chance.random() < pieces - 1 for _ in range(words))
        made.append(
            ObservedInput(label, 0.5 + 0.5 * chance.betavariate(4, 1), tokens, int(chance.random() < 0.02), words, "x")
        )
    vectors = np.random.default_rng(chance.randrange(2**32)).normal(size=(count, DIM))
    vectors[:, 0] += shift
    return InputSample(made, vectors, ["x"] * count)


def joined(first, second):
    return InputSample([*first.inputs, *second.inputs], np.concatenate([first.vectors, second.vectors]), ["x"] * 200)


def test_a_quiet_week_is_quiet_in_at_least_19_of_20():
    """The level of a look is raised, so that 10 looks have the false alarms that a week's looks have."""
    looks, alarmed = 10, 0
    for week in range(20):
        chance = random.Random(week)
        reference = inputs(chance, 500)
        level = LEVEL * LOOKS_A_WEEK / looks
        alarmed += any(look_at(reference, inputs(chance, 200), seed=at, level=level).alarms for at in range(looks))
    assert alarmed <= 1


@pytest.mark.parametrize(
    ("drift", "signal"),
    [({"share": 0.85}, "labels"), ({"pieces": 1.7}, "fertility"), ({"shift": 1.5}, "domain")],
    ids=["labels", "typos", "topic"],
)
def test_a_planted_drift_is_alarmed_within_500_calls(drift, signal):
    chance = random.Random(3)
    reference, quiet = inputs(chance, 500), inputs(chance, 150)
    assert not look_at(reference, inputs(chance, 200)).alarms
    for calls in range(50, 500, 50):
        new = inputs(chance, min(calls, 200), **drift)
        old = InputSample(quiet.inputs[: 200 - len(new.inputs)], quiet.vectors[: 200 - len(new.inputs)])
        if signal in look_at(reference, joined(old, new), seed=calls).alarms:
            return
    raise AssertionError("no alarm")


def test_the_p_values_of_samples_alike_are_uniform_or_larger():
    chance = np.random.default_rng(5)
    found = [compare_means(chance.normal(size=(200, 3)), chance.normal(size=(100, 3)), 1e-3, 200) for _ in range(200)]
    for level in (0.05, 0.2, 0.5):
        assert np.mean([one.p_value <= level for one in found]) <= level + 3 * np.sqrt(level * (1 - level) / 200)


def test_one_value_that_the_reference_lacks_is_no_alarm():
    reference = InputSample([ObservedInput("a", 0.9, 10, 0, 8)] * 300)
    window = InputSample([ObservedInput("a", 0.9, 10, int(at == 0), 8) for at in range(200)])
    assert not look_at(reference, window).alarms
    assert (
        "unknown_tokens"
        in look_at(reference, InputSample([ObservedInput("a", 0.9, 10, at % 2, 8) for at in range(200)])).alarms
    )


def test_benjamini_and_hochberg_take_the_last_p_value_below_the_line():
    assert benjamini_hochberg({"a": 0.01, "b": 0.02, "c": 0.9}, 0.05, 3) == {"a", "b"}
    assert benjamini_hochberg({"a": 0.02, "b": 0.9}, 0.05, 3) == frozenset()
    assert benjamini_hochberg({"a": 0.03, "b": 0.033}, 0.05, 3) == {"a", "b"}


def test_looks_are_limited_by_the_minute_and_some_follow_at_once():
    budget, made = LookBudget(0.0), 0
    while budget.wait_s(0.0) == 0.0:
        budget.take()
        made += 1
    assert (made, budget.wait_s(0.0)) == (20, 60.0)
    assert budget.wait_s(30.0) == pytest.approx(30.0)
    week = 0
    for minute in range(1, 7 * 24 * 60 + 1):
        while budget.wait_s(minute * 60.0) == 0.0:
            budget.take()
            week += 1
    assert made + week <= LOOKS_A_WEEK


def test_the_accuracy_of_unsure_answers_is_estimated_from_the_reference():
    chance = random.Random(1)
    sure = [chance.uniform(0.5, 1.0) for _ in range(2_000)]
    right = [float(chance.random() < one) for one in sure]
    window = [chance.uniform(0.5, 0.7) for _ in range(300)]
    found, low, high = estimate_accuracy(sure, right, window)
    assert low <= 0.6 <= high
    assert found == pytest.approx(0.6, abs=0.06)


def test_the_kernel_of_the_fourier_features_is_as_wide_as_the_median_distance():
    vectors = np.random.default_rng(3).normal(size=(200, 384))
    waves, _ = fourier_features(vectors, vectors[:1], np.random.default_rng(4))
    distances = np.linalg.norm(vectors[1:] - vectors[0], axis=1)
    kernel = waves[1:] @ waves[0] / (FOURIER // 2)
    assert kernel.mean() == pytest.approx(np.exp(-0.5 * (distances / np.median(distances)) ** 2).mean(), abs=0.05)
