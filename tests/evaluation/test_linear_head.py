"""Cheap heads learn what is linear, and their out-of-fold probabilities are held out and calibrated."""

from __future__ import annotations

import numpy as np
import pytest

from llmos.abi.error import BadInput
from llmos.evaluation.linear_head import average_predictions, cross_validated, fit, fold_numbers
from llmos.testing.errors import fails_with


def clusters(rows=600, classes=6, size=12, spread=1.0, seed=0):
    """Vectors around a middle for each class, and their classes."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(classes, size)) * 2
    y = random.integers(0, classes, rows)
    return (middles[y] + random.normal(size=(rows, size)) * spread).astype(np.float32), y


def test_a_head_learns_clusters_and_its_probabilities_sum_to_one():
    x, y = clusters()
    head = fit(x[:400], y[:400], classes=6)
    found = head.probabilities(x[400:])
    assert (found.argmax(axis=1) == y[400:]).mean() > 0.95
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_with_steps_enough_it_is_the_minimum_that_scikit_learn_finds():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = clusters(spread=3.0)
    ours = fit(x, y, classes=6, l2=2.0, steps=300).probabilities(x)
    theirs = linear_model.LogisticRegression(C=0.5, tol=1e-6, max_iter=1000).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(ours, theirs, atol=0.01)


def test_rows_of_several_labels_get_a_probability_for_each():
    x, y = clusters()
    many = np.zeros((len(y), 6), dtype=np.float32)
    many[np.arange(len(y)), y] = 1
    many[:, 5] = (y < 3) | (y == 5)  # a second label for half of the rows
    found = cross_validated(x, many)
    assert ((found > 0.5) == (many > 0.5)).mean() > 0.97


def test_labels_without_a_pattern_get_probabilities_near_their_shares():
    x, _ = clusters()
    y = np.random.default_rng(1).integers(0, 2, len(x))
    found = cross_validated(x, y)
    assert abs(found - 0.5).max() < 0.3, "a row's own label is never seen when its probabilities are made"


def test_out_of_fold_probabilities_are_calibrated():
    x, y = clusters(rows=2000, spread=3.0)
    found = cross_validated(x, y)
    confidence, is_right = found.max(axis=1), found.argmax(axis=1) == y
    assert abs(confidence.mean() - is_right.mean()) < 0.03


def test_folds_share_every_class_evenly_and_keep_groups_together():
    y = np.repeat([0, 1, 2], [50, 20, 5])
    folds = fold_numbers(y, folds=5, seed=3)
    assert [np.bincount(folds[y == one], minlength=5).tolist() for one in range(3)] == [[10] * 5, [4] * 5, [1] * 5]
    groups = np.array([f"group {i // 3}" for i in range(75)])
    owner = fold_numbers(y, folds=5, seed=3, groups=groups)
    assert all(len(set(owner[groups == name])) == 1 for name in set(groups))


def test_equal_seeds_give_equal_probabilities():
    x, y = clusters(rows=200)
    assert (cross_validated(x, y, seed=5) == cross_validated(x, y, seed=5)).all()


def test_fewer_rows_than_folds_are_refused():
    with fails_with(BadInput, rows=3, folds=5):
        fold_numbers(np.array([0, 1, 0]), folds=5, seed=0)


def test_heads_that_see_different_things_are_better_together():
    x, y = clusters(spread=4.0)
    other, _ = clusters(spread=4.0, seed=3)
    other = other[np.argsort(y, kind="stable").argsort()] * 0 + x + np.random.default_rng(5).normal(size=x.shape) * 4
    parts = [cross_validated(one.astype(np.float32), y, classes=6) for one in (x, other)]
    mean = average_predictions(parts, y)
    np.testing.assert_allclose(mean.sum(axis=1), 1, atol=1e-5)
    rows = np.arange(len(y))
    losses = [-np.log(one[rows, y]).mean() for one in (*parts, mean)]
    assert losses[2] <= max(losses[:2])
    np.testing.assert_allclose(average_predictions(parts[:1] * 2, y), average_predictions(parts[:1], y), atol=1e-5)
