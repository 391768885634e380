"""Counters by minute and hour: nothing is lost within a window, and nothing is kept beyond all of them."""

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.slo import WINDOWS
from llmos.kernel.slos.slo_counts import HOURS, MINUTES, SloCounts

DAY = 86_400.0
HOUR_ZERO = 1_750_003_200.0  # begins an hour


def test_a_window_has_its_own_minutes_and_no_others():
    counts = SloCounts(1)
    counts.add(HOUR_ZERO, [1])
    counts.add(HOUR_ZERO + 240, [])
    assert counts.within(HOUR_ZERO + 299, 300) == [2, 1]
    assert counts.within(HOUR_ZERO + 300, 300) == [1, 0]
    assert counts.within(HOUR_ZERO + 10 * DAY, 30 * DAY) == [2, 1]
    assert counts.within(HOUR_ZERO + 31 * DAY, 30 * DAY) == [0, 0]


@given(st.lists(st.tuples(st.floats(0, 40 * DAY), st.booleans()), max_size=60))
def test_the_counters_are_bounded_and_agree_with_a_list(calls):
    counts, calls = SloCounts(1), sorted(calls)
    for at, is_bad in calls:
        counts.add(HOUR_ZERO + at, [1] if is_bad else [])
    kept = counts.for_file(("x",))
    assert (len(kept.minutes) <= MINUTES, len(kept.hours) <= HOURS) == (True, True)
    now = calls[-1][0] if calls else 0.0
    for seconds in WINDOWS.values():
        unit = 60 if seconds <= WINDOWS["6h"] else 3600
        first = now // unit - seconds // unit + 1
        inside = [is_bad for at, is_bad in calls if at // unit >= first]
        assert counts.within(HOUR_ZERO + now, seconds) == [len(inside), sum(inside)]


def test_counters_go_on_from_their_file():
    counts, again = SloCounts(2), SloCounts(2)
    counts.add(HOUR_ZERO, [2])
    kept = counts.for_file(("a", "b"))
    again.take_over(kept.minutes, kept.hours)
    again.add(HOUR_ZERO, [1])
    assert again.within(HOUR_ZERO, 300) == [2, 1, 1]
