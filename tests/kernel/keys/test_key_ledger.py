"""The ledger of a key: no more enters than its limits allow, and what is refused costs nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import RateLimited
from llmos.abi.key import ApiKey, KeyLimits
from llmos.kernel.keys.key_ledger import KeyLedger, Moment
from llmos.testing.errors import fails_with

STEPS = st.lists(st.tuples(st.floats(0, 30, allow_nan=False), st.booleans(), st.integers(0, 50)), max_size=80)


def ledger(**limits):
    return KeyLedger(ApiKey("one", limits=KeyLimits(**limits)))


def at(seconds):
    return Moment(seconds, seconds)


@given(STEPS, st.integers(1, 6), st.integers(1, 20), st.integers(1, 4))
def test_no_minute_day_or_moment_has_more_than_the_limits_allow(steps, per_minute, per_day, concurrency):
    book = ledger(requests_per_minute=per_minute, requests_per_day=per_day, concurrency=concurrency)
    entered, now, under_way = [], 0.0, 0
    for wait, leaves, _ in steps:
        now += wait
        if leaves and under_way:
            book.leave()
            under_way -= 1
        try:
            book.enter(at(now))
        except RateLimited:  # not for nothing
            recent = sum(one > now - 61 for one in entered)
            assert under_way == concurrency or recent >= per_minute or len(entered) >= per_day
            continue
        entered.append(now)
        under_way += 1
        assert under_way <= concurrency
        assert sum(one > now - 60 for one in entered) <= per_minute
        assert len(entered) <= per_day
    assert book.under_way == under_way


@given(STEPS, st.integers(1, 100))
def test_calls_never_hold_and_use_more_tokens_than_a_minute_has(steps, limit):
    book, now, used, held = ledger(tokens_per_minute=limit), 0.0, [], []
    for wait, ends, tokens in steps:
        now += wait
        if ends and held:
            one = held.pop(0)
            book.settle(one, one, at(now))
            used.append((now, one))
        try:
            one = book.hold(tokens, at(now))
        except RateLimited:
            continue
        held.append(one)
        recent = sum(amount for moment, amount in used if moment > now - 60)
        # one that is larger than the limit comes alone, or beside others that hold nothing
        assert recent + sum(held) <= limit or (recent == 0 and sum(one > 0 for one in held) == 1)


def test_tokens_count_as_they_were_used_whatever_was_estimated():
    book = ledger(tokens_per_minute=100)
    held = book.hold(10, at(0))
    book.settle(held, 100, at(0))
    with fails_with(RateLimited, unit="tokens", per="minute", used=100, limit=100):
        book.hold(1, at(1))
    requests, tokens = book.remaining(at(1))
    assert requests is None
    assert (tokens.remaining, tokens.limit, tokens.reset_s) == (0, 100, 60)
    assert book.hold(1, at(61)) == 1


def test_a_restart_takes_over_what_was_used_today():
    book = ledger(requests_per_day=3, tokens_per_day=50)
    book.restore(2, 50, at(1000))
    book.enter(at(1000))
    with fails_with(RateLimited, unit="requests", per="day"):
        book.enter(at(1000))
    with fails_with(RateLimited, unit="tokens", per="day"):
        book.hold(1, at(1000))


def test_what_is_held_alone_is_waited_for_a_second_and_not_a_day():
    book = ledger(tokens_per_day=100)
    book.hold(100, at(0))
    with fails_with(RateLimited, retry_after_s=1):
        book.hold(1, at(0))


def test_one_that_never_entered_cannot_leave():
    with pytest.raises(AssertionError):
        ledger().leave()
