"""Counts of a minute and of a day, against the list of everything that was used."""

from hypothesis import given
from hypothesis import strategies as st

from llmos.kernel.keys.rate import DAY_S, MINUTE_S, DayCount, MinuteCount, rest_of_day_s

MOMENTS = st.lists(
    st.tuples(st.floats(0, 40, allow_nan=False), st.integers(1, 5)), max_size=60
)  # the wait before each use, and its amount


@given(MOMENTS)
def test_any_60_seconds_have_at_most_what_is_counted_and_old_uses_are_forgotten(steps):
    count, all_uses, now = MinuteCount(), [], 1000.0
    for wait, amount in steps:
        now += wait
        used = count.amount_at(now)
        assert used >= sum(one for at, one in all_uses if at > now - MINUTE_S)
        assert used <= sum(one for at, one in all_uses if at > now - MINUTE_S - 1)
        count.add(amount, now)
        all_uses.append((now, amount))


@given(MOMENTS, st.integers(1, 30))
def test_after_the_wait_that_is_said_so_much_is_free(steps, amount):
    count, now = MinuteCount(), 0.0
    for wait, one in steps:
        now += wait
        count.amount_at(now)
        count.add(one, now)
    before = count.amount_at(now)
    amount = min(amount, before)
    wait_s = count.free_in_s(amount, now) if amount else 0.0
    assert 0 <= wait_s <= MINUTE_S + 1
    assert before - count.amount_at(now + wait_s) >= amount


def test_it_keeps_no_more_than_61_slices():
    count = MinuteCount()
    for second in range(10_000):
        count.amount_at(second / 3)
        count.add(1, second / 3)
    assert count.amount_at(10_000 / 3) <= 61 * 3


def test_a_day_begins_at_midnight_of_utc():
    count, midnight = DayCount(5, DAY_S - 10.0), float(DAY_S)
    count.add(2, midnight - 1)
    assert count.amount_at(midnight - 1) == 7
    assert count.amount_at(midnight) == 0
    assert (rest_of_day_s(midnight - 1), rest_of_day_s(midnight)) == (1, DAY_S)
