"""Operations on datasets: differences, merges, samples and splits, as decisions about rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, Conflict
from llmos.abi.json_type import Json
from llmos.data.datasets.comparison import difference
from llmos.data.datasets.merging import plan_merge
from llmos.data.datasets.row_table import RowTable
from llmos.data.datasets.sampling import choose_sample, equal_quotas, shared_quotas
from llmos.data.datasets.split_by import SplitBy, choose_latest, choose_units, column_leaks, time_of
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow
from llmos.data.splits import choose_rows

ROWS = st.dictionaries(st.integers(0, 40), st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30)


def table(rows: dict[int, tuple[int, int]]) -> RowTable:
    """Ids with contents and splits."""
    contents = [content * 1000 + id for id, (content, _) in rows.items()]
    splits = [split for _, split in rows.values()]
    as_array = np.array
    return RowTable(
        as_array(list(rows), np.uint64), as_array(contents, np.uint64), as_array(splits, np.uint8), labels=Counter()
    )


def stored(text: str, label: str = "a", **extra: Json) -> StoredRow[LabelRow]:
    return StoredRow("0" * 16, LabelRow({"text": text}, (label,), "rows.csv", 1), extra)


@given(ROWS)
def test_a_dataset_differs_from_itself_in_nothing(rows: dict[int, tuple[int, int]]):
    found = difference(table(rows), table(rows))
    assert (len(found.added), len(found.removed), len(found.changed), len(found.moved)) == (0, 0, 0, 0)
    assert found.same_count == len(rows)


@given(ROWS, ROWS)
def test_every_row_is_added_removed_changed_moved_or_the_same(before, after):
    found = difference(table(before), table(after))
    assert set(found.added.tolist()) == after.keys() - before.keys()
    assert set(found.removed.tolist()) == before.keys() - after.keys()
    both = before.keys() & after.keys()
    assert set(found.changed.tolist()) == {id for id in both if before[id][0] != after[id][0]}
    assert set(found.moved.tolist()) == {id for id in both if before[id][1] != after[id][1]}
    assert found.same_count == sum(before[id] == after[id] for id in both)


def test_twins_whose_labels_changed_places_are_the_same():
    ids, splits = np.array([1, 2], np.uint64), np.zeros(2, np.uint8)
    one = RowTable(ids, np.array([10, 20], np.uint64), splits, labels=Counter())
    other = RowTable(ids, np.array([20, 10], np.uint64), splits, labels=Counter())
    assert len(difference(one, other).changed) == 0


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_a_merge_has_every_id_once(tables):
    same = [{id: (0, split) for id, (_, split) in rows.items()} for rows in tables]
    plan = plan_merge([table(rows) for rows in same], [f"t@{i}" for i in range(len(same))])
    kept = [id for rows, mask in zip(same, plan.kept, strict=True) for id, k in zip(rows, mask, strict=True) if k]
    assert sorted(kept) == sorted(set().union(*same))
    assert plan.again_count == sum(map(len, same)) - len(kept)


def test_rows_that_differ_are_refused_unless_one_is_preferred():
    tables = [table({1: (0, 0), 2: (0, 0)}), table({2: (1, 0), 3: (0, 0)})]
    with pytest.raises(Conflict) as raised:
        plan_merge(tables, ["a@1", "b@1"])
    assert (raised.value.detail["count"], raised.value.detail["ids"]) == (1, [f"{2:016x}"])
    assert [one.tolist() for one in plan_merge(tables, ["a@1", "b@1"], "first").kept] == [[True, True], [False, True]]
    assert [one.tolist() for one in plan_merge(tables, ["a@1", "b@1"], "last").kept] == [[True, False], [True, True]]


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 30), min_size=1), st.data())
def test_quotas_sum_to_what_is_wanted(sizes: dict[str, int], data: st.DataObject):
    wanted = data.draw(st.integers(1, sum(sizes.values())))
    for quotas in (shared_quotas(sizes, wanted), equal_quotas(sizes, wanted)):
        assert sum(quotas.values()) == wanted
        assert all(0 <= quotas[name] <= size for name, size in sizes.items())
    equal = equal_quotas(sizes, wanted)
    largest = max(equal.values())
    assert all(equal[name] >= largest - 1 or equal[name] == sizes[name] for name in sizes)


def test_a_sample_depends_on_seed_and_ids_and_not_on_the_order_of_rows():
    ids, strata = np.arange(1, 201, dtype=np.uint64), ["a", "b"] * 100
    one = choose_sample(ids, strata, 7, count=20, balance=False)
    backwards = choose_sample(ids[::-1].copy(), strata[::-1], 7, count=20, balance=False)
    assert set(ids[one]) == set(ids[::-1][backwards])
    assert set(ids[one]) != set(ids[choose_sample(ids, strata, 8, count=20, balance=False)])
    assert int(one[::2].sum()) == int(one[1::2].sum()) == 10


def test_a_sample_of_more_rows_than_there_are_is_refused():
    with pytest.raises(BadInput):
        choose_sample(np.arange(3, dtype=np.uint64), ["a"] * 3, 7, count=4, balance=False)


@given(st.lists(st.tuples(st.sampled_from("pqrstu"), st.sampled_from("ab")), min_size=20, max_size=60))
def test_a_split_by_group_parts_no_group(rows: list[tuple[str, str]]):
    by = SplitBy(group="customer")
    those = [stored(f"text {i}", label, customer=group) for i, (group, label) in enumerate(rows)]
    try:
        chosen = choose_units([by.unit(one) for one in those], 0.3, "test", by_time=False)
    except BadInput:
        return  # one customer has nearly all rows
    test = [one for i, one in enumerate(those) if i in chosen]
    train = [one for i, one in enumerate(those) if i not in chosen]
    assert len(test) + len(train) == len(those)
    assert column_leaks({"train": train, "test": test}, by) == ()


def test_without_columns_the_rows_are_chosen_that_training_chooses():
    those = [stored(f"text {i % 70}", "ab"[i % 2]) for i in range(90)]
    units = [SplitBy().unit(one) for one in those]
    assert choose_units(units, 0.2, "test", by_time=False) == choose_rows([one.row for one in those], 0.2, "test")


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.floats(0.05, 0.9))
def test_a_split_by_time_takes_the_latest_rows(times: list[int], share: float):
    try:
        chosen = choose_latest(times, share, "test")
    except BadInput:
        assert len(set(times)) == 1
        return
    assert 0 < len(chosen) < len(times)
    assert min(times[i] for i in chosen) > max(time for i, time in enumerate(times) if i not in chosen)


@pytest.mark.parametrize(
    ("value", "seconds"), [("1970-01-02", 86_400.0), ("1970-01-01T01:00:00+01:00", 0.0), ("12.5", 12.5), (7, 7.0)]
)
def test_times_are_dates_or_numbers(value: Json, seconds: float):
    assert time_of(stored("x", when=value), "when") == seconds


@pytest.mark.parametrize("value", ["03/31/2026", "", None, True])
def test_what_is_no_time_is_refused_with_its_line(value: Json):
    with pytest.raises(BadInput) as raised:
        time_of(stored("x", when=value), "when")
    assert raised.value.detail["line"] == 1


def test_leaks_of_groups_and_of_time_are_found():
    splits = {
        "train": [stored("one", customer="a", when="2026-01-05")],
        "test": [stored("two", customer="a", when="2026-01-04"), stored("three", customer="b", when="2026-01-06")],
    }
    (group,) = column_leaks(splits, SplitBy(group="customer"))
    (time,) = column_leaks(splits, SplitBy(time="when"))
    assert (group.seen_in, group.again_in, group.count, group.examples) == ("train", "test", 1, ("a",))
    assert (time.count, time.share, time.examples) == (1, 0.5, ("2026-01-04",))
