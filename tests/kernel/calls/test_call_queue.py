"""Calls that wait: never more than may, none lost, and each at its turn."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.call import Call
from llmos.abi.error import Busy
from llmos.abi.process import Priority
from llmos.kernel.calls.call_queue import IN_HAND_INPUTS, PATIENCE_S, SMALL_INPUTS, CallQueue, PendingCall

LIMIT = 3
RANK = {priority: place for place, priority in enumerate(Priority)}


def opened(number: int, priority: Priority = Priority.INTERACTIVE, since: float = 0.0, size: int = 1) -> PendingCall:
    return PendingCall(Call(number, "tiny:1", "embed", ("x",) * size, priority=priority), 1, since)


def taken(waiting: CallQueue, at: float = 0.0) -> int | None:
    """Who goes next; it goes."""
    one = waiting.next({}, at)
    if one is None:
        return None
    waiting.remove(one)
    return one.call.call_id


def test_the_higher_class_goes_first_and_in_a_class_the_older():
    waiting = CallQueue(9)
    for number, priority in enumerate(
        [Priority.BACKGROUND, Priority.BATCH, Priority.INTERACTIVE, Priority.INTERACTIVE]
    ):
        waiting.put(opened(number, priority), 0.0)
    assert [taken(waiting) for _ in range(5)] == [2, 3, 1, 0, None]


def test_whoever_has_waited_out_its_patience_is_passed_no_longer():
    waiting = CallQueue(9)
    waiting.put(opened(1, Priority.BATCH, since=0.0), 0.0)
    over = PATIENCE_S[Priority.BATCH]
    waiting.put(opened(2, since=over - 0.1), over - 0.1)
    waiting.put(opened(3, since=over + 0.1), over + 0.1)
    assert [taken(waiting, at=over + 0.1) for _ in range(3)] == [2, 1, 3]


@pytest.mark.parametrize("size", [1, SMALL_INPUTS + 1])
@pytest.mark.parametrize("priority", Priority)
def test_no_more_of_a_kind_is_sent_than_a_process_has_to_go_on_with(priority, size):
    waiting, full = CallQueue(9), (priority, size > SMALL_INPUTS)
    waiting.put(opened(1, priority, size=size), 0.0)
    assert waiting.next({full: IN_HAND_INPUTS}, 0.0) is None
    assert waiting.next({full: IN_HAND_INPUTS - 1}, 0.0) is not None


@pytest.mark.parametrize("priority", Priority)
def test_a_small_call_waits_for_no_large_one_in_hand_or_before_it(priority):
    waiting = CallQueue(9)
    waiting.put(opened(1, priority, size=IN_HAND_INPUTS), 0.0)
    waiting.put(opened(2, priority, size=SMALL_INPUTS), 0.0)
    found = waiting.next({(other, True): IN_HAND_INPUTS for other in Priority}, 0.0)
    assert found is not None
    assert found.call.call_id == 2


def test_a_large_call_waits_for_none_of_a_lower_class():
    waiting = CallQueue(9)
    waiting.put(opened(1, Priority.BATCH, size=IN_HAND_INPUTS), 0.0)
    assert waiting.next({(Priority.BACKGROUND, True): IN_HAND_INPUTS}, 0.0) is not None
    assert waiting.next({(Priority.INTERACTIVE, True): IN_HAND_INPUTS}, 0.0) is None


def test_held_calls_let_others_pass_and_then_take_their_place_again():
    waiting = CallQueue(9)
    for number in (1, 2, 3):
        waiting.put(opened(number), 0.0)
    first = waiting.next({}, 0.0)
    assert first is not None
    waiting.hold(first, "ner:1")
    assert taken(waiting) == 2
    waiting.let_go("ner:1")
    assert [taken(waiting) for _ in range(3)] == [1, 3, None]


def test_the_first_in_a_full_queue_says_how_long_one_waits():
    waiting = CallQueue(1)
    waiting.put(opened(1, since=10.0), 10.0)
    for at, retry_s in ((10.0, 1), (14.2, 5), (500.0, 60)):
        with pytest.raises(Busy) as refused:
            waiting.put(opened(2), at)
        assert refused.value.detail["retry_after_s"] == retry_s


KLASSES = st.sampled_from(Priority)
SIZES = st.sampled_from([1, SMALL_INPUTS, SMALL_INPUTS + 1, IN_HAND_INPUTS])
STEPS = st.one_of(
    st.tuples(st.just("put"), st.tuples(KLASSES, SIZES)),
    st.tuples(st.just("put_back"), st.tuples(KLASSES, SIZES)),
    st.tuples(st.just("take"), st.dictionaries(st.tuples(KLASSES, st.booleans()), st.integers(0, IN_HAND_INPUTS))),
    st.tuples(st.just("hold"), st.sampled_from(["a:1", "b:1"])),
    st.tuples(st.just("let_go"), st.sampled_from(["a:1", "b:1", None])),
    st.tuples(st.just("drop"), st.integers(0, 30)),
    st.tuples(st.just("wait"), st.integers(0, 40)),
)


@given(st.lists(STEPS, max_size=80))
def test_none_is_lost_none_goes_twice_and_the_limit_holds(steps):
    """Beside the queue runs its plainest form: a list that is sorted whenever somebody is to go."""
    waiting, plain, held = CallQueue(LIMIT), {}, {}
    at, number, gone = 0.0, 0, []
    for kind, what in steps:
        if kind in ("put", "put_back"):
            number += 1
            one = opened(number, what[0], since=at, size=what[1])
            sizes = Counter(other.call.priority for other in plain.values())
            if kind == "put" and sizes[what[0]] >= LIMIT:
                with pytest.raises(Busy):
                    waiting.put(one, at)
                continue
            waiting.put(one, at) if kind == "put" else waiting.put_back(one)
            plain[number] = one
        elif kind in ("take", "hold"):
            in_hand = what if kind == "take" else {}
            expected = plainly_next(plain, held, in_hand, at)
            found = waiting.next(in_hand, at)
            assert found is expected
            if found is not None and kind == "take":
                waiting.remove(found)
                gone.append(plain.pop(found.call.call_id).call.call_id)
            elif found is not None:
                waiting.hold(found, what)
                held[found.call.call_id] = what
        elif kind == "let_go":
            waiting.let_go(what)
            held = {call_id: key for call_id, key in held.items() if what not in (None, key)}
        elif kind == "drop" and plain:
            one = plain.pop(sorted(plain)[what % len(plain)])
            waiting.remove(one)
            waiting.remove(one)
            held.pop(one.call.call_id, None)
        else:
            at += what if kind == "wait" else 0
        assert len(waiting) == len(plain)
        assert {one.call.call_id for one in waiting} == plain.keys()
    waiting.let_go()
    while (call_id := taken(waiting, at)) is not None:
        gone.append(plain.pop(call_id).call.call_id)
    assert plain == {}
    assert len(gone) == len(set(gone))


def plainly_next(plain, held, in_hand, at):
    heads = {}
    for one in plain.values():
        if one.call.call_id not in held:
            heads.setdefault(one.lane, one)
    may = [
        one
        for (priority, is_large), one in heads.items()
        if sum(in_hand.get((other, is_large), 0) for other in Priority if RANK[other] <= RANK[priority])
        < IN_HAND_INPUTS
    ]
    turn = {one.call.call_id: one.since + PATIENCE_S[one.call.priority] for one in may}
    return min(may, key=lambda one: (turn[one.call.call_id], RANK[one.call.priority], one.lane[1]), default=None)
