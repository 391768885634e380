"""Weak labels held against labelled rows: shares with intervals, and a temperature only where it is worth it."""

from __future__ import annotations

import numpy as np

from llmos.data.weak_labels.label_model import fit_dawid_skene, majority
from llmos.evaluation.weak_check import check_weak_labels


def test_each_rule_and_the_label_model_have_their_share_with_an_interval() -> None:
    votes = np.array([[0, 0], [1, -1], [-1, 1], [-1, -1]])
    check = check_weak_labels(votes, [0, 0, 1, 1], majority(votes, 2))
    assert [(one.right, one.rows) for one in check.rules] == [(1, 2), (2, 2)]
    plain = check.plain()
    assert (plain["rows"], plain["covered"], plain["right"]) == (4, 3, 2)
    assert plain["low"] < plain["accuracy"] < plain["high"]
    assert plain["log_loss"] is None  # too few rows


def test_without_labelled_rows_nothing_is_claimed() -> None:
    plain = check_weak_labels(np.zeros((0, 2), np.int32), [], np.zeros((0, 3))).plain()
    assert (plain["accuracy"], plain["majority"]["accuracy"], plain["temperature"]) == (None, None, 1.0)


def test_a_label_that_no_rule_knows_is_wrong_whatever_is_voted() -> None:
    votes = np.array([[0], [0]])
    assert check_weak_labels(votes, [-1, 0], majority(votes, 2)).covered.right == 1


def test_copies_of_a_rule_make_a_model_too_sure_and_a_temperature_mends_it() -> None:
    random = np.random.default_rng(2)
    true = random.integers(2, size=2000)
    voters = [np.where(random.random(2000) < 0.75, true, 1 - true) for _ in range(2)]
    votes = np.stack([*voters, *voters, *voters], axis=1)
    model = fit_dawid_skene(votes, 2)
    check = check_weak_labels(votes, true.tolist(), model.probabilities(votes))
    assert check.temperature is not None
    assert check.used_temperature > 1.5
    assert check.losses is not None
    assert check.losses[0] < check.losses[1]
