"""Self-training: labels spread to near rows, each label has its own threshold, and held rows say how many are right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.evaluation.self_training.propagation import neighbour_graph, propagate
from llmos.evaluation.self_training.selection import Belief, choose, estimated_precision, is_sure

BELIEFS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=1, max_size=60)


def clusters(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    middles = generator.normal(size=(count, 16))
    labels = np.arange(count * size) % count
    vectors = (middles[labels] + 0.3 * generator.normal(size=(count * size, 16))).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def test_one_label_of_each_cluster_spreads_to_all_its_rows():
    vectors, labels = clusters(4, 40)
    found = propagate(neighbour_graph(vectors), np.arange(4), labels[:4], 4)
    assert (found.argmax(axis=1) == labels).mean() > 0.97
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_rows_that_no_label_reaches_believe_all_labels_alike():
    apart = np.eye(4, dtype=np.float32)
    found = propagate(neighbour_graph(apart, 1), np.array([0]), np.array([1]), 2)
    assert found[3] == pytest.approx([0.5, 0.5])


@given(BELIEFS, st.floats(0.05, 1))
def test_every_group_gives_its_share_and_at_least_one_row(drawn: list[tuple[str, float]], share: float):
    beliefs = [Belief(i, group, sure) for i, (group, sure) in enumerate(drawn)]
    places, least = choose(beliefs, share)
    for group in {one.group for one in beliefs}:
        own = [i for i, one in enumerate(beliefs) if one.group == group]
        taken = [i for i in places if i in own]
        assert len(taken) == max(1, int(np.ceil(share * len(own))))
        left = [beliefs[i].confidence for i in own if i not in taken]
        assert min(beliefs[i].confidence for i in taken) >= max(left, default=0)
        assert all(is_sure(beliefs[i], least) for i in taken)


def test_precision_counts_held_rows_that_are_as_sure_as_those_that_are_learned():
    held = [Belief(0, "a", 0.9), Belief(1, "a", 0.8), Belief(2, "a", 0.1), Belief(3, "b", 1.0)]
    found = estimated_precision(held, [True, False, False, False], {"a": 0.5})
    assert (found["precision"], found["rows"]) == (0.5, 2)
    assert 0 < found["low"] < 0.5 < found["high"] < 1


def test_without_held_rows_that_are_sure_no_precision_is_said():
    found = estimated_precision([Belief(0, "a", 0.1)], [True], {"a": 0.5})
    assert found == {"precision": None, "low": 0.0, "high": 1.0, "rows": 0}


@pytest.mark.torch
def test_labels_spread_as_far_as_is_right_about_more_labelled_rows():
    from llmos.evaluation.self_training.propagation import SPREADS
    from llmos.evaluation.self_training.start import spread_labels

    vectors, labels = clusters(4, 40)
    found = spread_labels(vectors, labels[:24], 4)
    graph = neighbour_graph(vectors)
    ways = [propagate(graph, np.arange(24), labels[:24], 4, spread)[24:] for spread in SPREADS]
    assert any(np.array_equal(found.others, way) for way in ways)
    assert found.labelled.shape == (24, 4)
    assert found.accuracy > 0.9
    assert (found.others.argmax(axis=1) == labels[24:]).mean() > 0.97


@pytest.mark.torch
@pytest.mark.parametrize(
    ("gained", "lost", "exceeds"),
    [(16, 8, True), (4, 1, True), (14, 12, False), (5, 5, False), (3, 9, False), (1, 0, False)],
)
def test_labels_are_spread_only_where_they_win_by_more_than_luck(gained, lost, exceeds):
    from llmos.evaluation.self_training.start import exceeds_luck

    assert exceeds_luck(gained, lost) is exceeds


@pytest.mark.torch
def test_labels_are_not_spread_where_a_head_is_right_about_all():
    from llmos.evaluation.self_training.start import spread_labels

    vectors, labels = clusters(4, 40)
    found = spread_labels(vectors, labels[:24], 4)
    assert (found.head_accuracy, found.is_better) == (1.0, False)
