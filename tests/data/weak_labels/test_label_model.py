"""The model of Dawid and Skene: it recovers how annotators err, and favours nobody."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.data.weak_labels.label_model import fit_dawid_skene, has_vote, majority
from llmos.data.weak_labels.summary import summarize


def planted(
    seed: int, rows: int, labels: int, rules: int, vote_share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True labels, each rule's confusion matrix [rules, labels, labels] (right more often than not), and votes."""
    random = np.random.default_rng(seed)
    true = random.integers(labels, size=rows)
    confusions = np.stack(
        [
            np.stack([0.3 * random.dirichlet(np.ones(labels)) + 0.7 * np.eye(labels)[one] for one in range(labels)])
            for _ in range(rules)
        ]
    )
    votes = np.stack([[random.choice(labels, p=confusions[rule, one]) for rule in range(rules)] for one in true])
    votes[random.random(votes.shape) > vote_share] = -1
    return true, confusions, votes


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(5, 8))
def test_planted_confusions_are_recovered_by_the_paper_s_em(seed: int, labels: int, rules: int) -> None:
    true, confusions, votes = planted(seed, 1500, labels, rules, 1.0)
    model = fit_dawid_skene(votes, labels, anchor=0.0)
    assert np.abs(model.confusions[:, :, :labels] - confusions).max() < 0.15
    assert (model.probabilities(votes).argmax(axis=1) == true).mean() > 0.9


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(2, 6), st.floats(0.2, 1.0), st.sampled_from([0.0, 1.0]))
def test_the_order_of_rules_does_not_matter(seed: int, labels: int, rules: int, share: float, anchor: float) -> None:
    _, _, votes = planted(seed, 200, labels, rules, share)
    if not has_vote(votes).any():
        return
    order = np.random.default_rng(seed).permutation(rules)
    one = fit_dawid_skene(votes, labels, anchor=anchor)
    other = fit_dawid_skene(votes[:, order], labels, anchor=anchor)
    np.testing.assert_allclose(one.confusions[order], other.confusions, atol=1e-6)
    np.testing.assert_allclose(one.probabilities(votes), other.probabilities(votes[:, order]), atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(*[st.integers(0, 1)] * 3), min_size=1, max_size=4), st.sampled_from([0.0, 1.0]))
def test_rules_that_are_all_equal_are_a_majority(seen: list[tuple[int, int, int]], anchor: float) -> None:
    """Each row comes in every order of the rules and with both labels exchanged, so no rule differs from another."""
    rows = [tuple(abs(flip - one) for one in some) for row in seen for some in permutations(row) for flip in (0, 1)]
    votes = np.array(rows)
    found = fit_dawid_skene(votes, 2, anchor=anchor)
    np.testing.assert_allclose(
        found.confusions, np.broadcast_to(found.confusions[:1], found.confusions.shape), atol=1e-9
    )
    assert (found.probabilities(votes).argmax(axis=1) == majority(votes, 2).argmax(axis=1)).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 6), st.floats(0.05, 1.0))
def test_probabilities_sum_to_one_and_are_equal_where_nobody_votes(
    seed: int, labels: int, rules: int, share: float
) -> None:
    _, _, votes = planted(seed, 60, labels, rules, share)
    votes[0] = 0
    votes[1] = -1
    for found in (fit_dawid_skene(votes, labels).probabilities(votes), majority(votes, labels)):
        np.testing.assert_allclose(found.sum(axis=1), 1.0)
        np.testing.assert_allclose(found[1], 1 / labels)


def test_bad_rules_are_outvoted_by_fewer_good_ones() -> None:
    true, _, _ = planted(3, 2000, 2, 1, 1.0)
    random = np.random.default_rng(4)
    rights = (0.9, 0.9, 0.85, 0.55, 0.55)
    votes = np.stack([np.where(random.random(2000) < right, true, 1 - true) for right in rights], axis=1)
    model = fit_dawid_skene(votes, 2)
    by_model = (model.probabilities(votes).argmax(axis=1) == true).mean()
    by_majority = (majority(votes, 2).argmax(axis=1) == true).mean()
    assert by_model > by_majority + 0.02
    believed = [one.believed for one in summarize(votes, model.probabilities(votes))]
    assert sorted(range(5), key=lambda at: -(believed[at] or 0))[3:] in ([3, 4], [4, 3])


def test_rules_that_know_one_label_each_are_weighed_by_where_they_are_silent() -> None:
    """Conditional on a vote such a rule always says the same, so that only its abstentions tell labels apart."""
    gains = []
    for seed in range(4):
        random = np.random.default_rng(seed)
        true = random.integers(3, size=3000)
        votes = np.full((3000, 6), -1)
        for rule in range(6):
            fires = np.where(true == rule % 3, 0.4, 0.05 if rule < 3 else 0.15)
            votes[random.random(3000) < fires, rule] = rule % 3
        some = has_vote(votes)
        by_model = (fit_dawid_skene(votes, 3).probabilities(votes).argmax(axis=1) == true)[some].mean()
        counted = majority(votes, 3)
        best = counted == counted.max(axis=1, keepdims=True)
        gains.append(by_model - (best[np.arange(3000), true] / best.sum(axis=1))[some].mean())
    assert np.mean(gains) > 0.005


def test_a_summary_counts_coverage_overlaps_and_conflicts() -> None:
    votes = np.array([[0, 0, -1], [0, 1, -1], [-1, 1, -1], [0, -1, -1]])
    one, two, none = summarize(votes, majority(votes, 2))
    assert (one.votes, one.labels, one.coverage, one.overlaps, one.conflicts) == (3, (0,), 0.75, 0.5, 0.25)
    assert (two.votes, two.labels, two.coverage, two.overlaps, two.conflicts) == (3, (0, 1), 0.75, 0.5, 0.25)
    assert (none.votes, none.labels, none.coverage, none.believed) == (0, (), 0.0, None)
    assert one.believed == (1.0 + 0.5 + 1.0) / 3
