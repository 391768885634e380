"""The bench of augmentation: how a gain over seeds is bounded, and when a copy counts as spoilt."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

from bench.augmentation import SETS, chosen_sets, interval, keeps_entities
from bench.stop import Stop
from llmos.data.row import TagRow

pytestmark = pytest.mark.torch


def test_the_interval_of_a_gain_is_students_over_the_seeds():
    low, high = interval([0.01, 0.02, 0.03])
    assert (low + high) / 2 == pytest.approx(0.02)
    assert high - low == pytest.approx(2 * 2.92 * 0.01 / math.sqrt(3), rel=1e-3)
    assert interval([0.01]) == (-math.inf, math.inf)


def test_a_copy_with_another_entity_counts_where_words_may_not_change():
    row = TagRow({"tokens": ["Ada", "came"]}, ("B-PER", "O"), "f", 1)
    other = TagRow({"tokens": ["Bob", "came"]}, ("B-PER", "O"), "f", 1)
    lost = TagRow({"tokens": ["came", "late"]}, ("O", "O"), "f", 1)
    assert keeps_entities(row, row, "swap")
    assert not keeps_entities(row, other, "swap")
    assert keeps_entities(row, other, "mention")
    assert not keeps_entities(row, lost, "mention")


def test_sets_are_measured_in_the_order_in_which_they_are_named():
    assert [one.name for one in chosen_sets("sst2, banking77,sst2")] == ["sst2", "banking77"]
    assert chosen_sets(None) == SETS


@pytest.mark.parametrize("names", ["", " , ", "banking77,nosuch"])
def test_a_set_that_there_is_not_stops_the_bench(names: str):
    with pytest.raises(Stop):
        chosen_sets(names)
