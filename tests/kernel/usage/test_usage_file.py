"""The file of usage: counts are added, summed over what is left out, and removed when their days are over."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.usage import UsageFilter, UsagePart, UsageRow
from llmos.kernel.usage.usage_file import UsageFile, day_text

DAY = 20_000  # since 1970: 2024-10-04
PLACES = st.tuples(st.integers(DAY, DAY + 2), st.sampled_from(["", "k1", "k2"]), st.sampled_from(["m:1", "m:2"]))
COUNTS = st.lists(st.integers(0, 1 << 40), min_size=4, max_size=4)


@pytest.fixture
def file(tmp_path):
    return UsageFile(tmp_path / "usage.db")


def test_counts_of_one_place_are_added(file):
    file.add({(DAY, "k1", "m:1"): [1, 0, 5, 2]}, DAY)
    file.add({(DAY, "k1", "m:1"): [2, 1, 7, 0]}, DAY)
    assert file.find(UsageFilter()) == [UsageRow("2024-10-04", "k1", "m:1", 3, 1, 12, 2)]


def test_a_model_is_meant_by_its_version_or_its_name(file):
    file.add({(DAY, "", name): [1, 0, 0, 0] for name in ("m:1", "m:2", "mm:1", "m")}, DAY)
    found = {wanted: {one.model for one in file.find(UsageFilter(model=wanted))} for wanted in ("m", "m:1", "m:")}
    assert found == {"m": {"m", "m:1", "m:2"}, "m:1": {"m:1"}, "m:": set()}


def test_days_before_the_first_are_removed(file):
    file.add({(DAY + day, "k", "m:1"): [1, 0, 0, 0] for day in range(5)}, DAY)
    file.add({(DAY + 5, "k", "m:1"): [1, 0, 0, 0]}, DAY + 3)
    assert [one.day for one in file.find(UsageFilter())] == [day_text(DAY + day) for day in (5, 4, 3)]


def test_the_newest_days_come_first_and_the_most_requests_of_a_day(file):
    file.add({(DAY, "a", "m:1"): [9, 0, 0, 0], (DAY + 1, "a", "m:1"): [1, 0, 0, 0], (DAY + 1, "b", "m:1"): [2] * 4}, 0)
    assert [(one.day[-1], one.key) for one in file.find(UsageFilter())] == [("5", "b"), ("5", "a"), ("4", "a")]
    assert [one.key for one in file.find(UsageFilter((UsagePart.KEY,), limit=1))] == ["a"]


def test_a_file_that_is_not_there_is_not_made_by_looking(file, tmp_path):
    assert file.find(UsageFilter()) == []
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(PLACES, COUNTS), max_size=12), st.sets(st.sampled_from(list(UsagePart)), min_size=1))
def test_sums_are_those_of_the_counts_whatever_they_are_added_up_by(tmp_path_factory, added, by):
    file = UsageFile(tmp_path_factory.mktemp("usage") / "usage.db")
    sums: dict[tuple[str, ...], Counter[int]] = {}
    parts = [part for part in UsagePart if part in by]
    for (day, key, model), counts in added:
        file.add({(day, key, model): counts}, 0)
        named = {"day": day_text(day), "key": key, "model": model}
        total = sums.setdefault(tuple(named[part] for part in parts), Counter())
        for at, count in enumerate(counts):
            total[at] += count
    found = file.find(UsageFilter(tuple(parts)))
    shown = {
        tuple(getattr(one, part) for part in parts): (one.requests, one.errors, one.input_tokens, one.output_tokens)
        for one in found
    }
    assert shown == {place: tuple(total[at] for at in range(4)) for place, total in sums.items()}
    assert len(found) == len(shown)
