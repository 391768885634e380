"""Calls that wait: never more than may, none lost, and each at its turn."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.call import Call
from llmos.abi.error import Busy
from llmos.abi.process import Class
from llmos.kernel.open import Open
from llmos.kernel.waiting import IN_HAND_INPUTS, PATIENCE_S, SHARE, Waiting

LIMIT = 3
RANK = {klass: place for place, klass in enumerate(Class)}


def opened(number: int, klass: Class = Class.INTERACTIVE, since: float = 0.0) -> Open:
    return Open(Call(number, "tiny:1", "embed", ("x",), klass=klass), 1, since)


def taken(waiting: Waiting, at: float = 0.0, inputs_in_hand: int = 0) -> int | None:
    """Who goes next; it goes."""
    one = waiting.next(inputs_in_hand, at)
    if one is None:
        return None
    waiting.remove(one)
    return one.call.call_id


def test_the_higher_class_goes_first_and_in_a_class_the_older():
    waiting = Waiting(9)
    for number, klass in enumerate([Class.BACKGROUND, Class.BATCH, Class.INTERACTIVE, Class.INTERACTIVE]):
        waiting.put(opened(number, klass), 0.0)
    assert [taken(waiting) for _ in range(5)] == [2, 3, 1, 0, None]


def test_whoever_has_waited_out_its_patience_is_passed_no_longer():
    waiting = Waiting(9)
    waiting.put(opened(1, Class.BATCH, since=0.0), 0.0)
    over = PATIENCE_S[Class.BATCH]
    waiting.put(opened(2, since=over - 0.1), over - 0.1)
    waiting.put(opened(3, since=over + 0.1), over + 0.1)
    assert [taken(waiting, at=over + 0.1) for _ in range(3)] == [2, 1, 3]


@pytest.mark.parametrize("klass", Class)
def test_a_class_leaves_what_is_beyond_its_share_of_the_process_to_those_above(klass):
    waiting = Waiting(9)
    waiting.put(opened(1, klass), 0.0)
    full = int(IN_HAND_INPUTS * SHARE[klass])
    assert waiting.next(full, 0.0) is None
    assert waiting.next(full - 1, 0.0) is not None


def test_held_calls_let_others_pass_and_then_take_their_place_again():
    waiting = Waiting(9)
    for number in (1, 2, 3):
        waiting.put(opened(number), 0.0)
    first = waiting.next(0, 0.0)
    assert first is not None
    waiting.hold(first, "ner:1")
    assert taken(waiting) == 2
    waiting.let_go("ner:1")
    assert [taken(waiting) for _ in range(3)] == [1, 3, None]


def test_the_first_in_a_full_queue_says_how_long_one_waits():
    waiting = Waiting(1)
    waiting.put(opened(1, since=10.0), 10.0)
    for at, retry_s in ((10.0, 1), (14.2, 5), (500.0, 60)):
        with pytest.raises(Busy) as refused:
            waiting.put(opened(2), at)
        assert refused.value.detail["retry_after_s"] == retry_s


KLASSES = st.sampled_from(Class)
STEPS = st.one_of(
    st.tuples(st.just("put"), KLASSES),
    st.tuples(st.just("put_back"), KLASSES),
    st.tuples(st.just("take"), st.integers(0, IN_HAND_INPUTS)),
    st.tuples(st.just("hold"), st.sampled_from(["a:1", "b:1"])),
    st.tuples(st.just("let_go"), st.sampled_from(["a:1", "b:1", None])),
    st.tuples(st.just("drop"), st.integers(0, 30)),
    st.tuples(st.just("wait"), st.integers(0, 40)),
)


@given(st.lists(STEPS, max_size=80))
def test_none_is_lost_none_goes_twice_and_the_limit_holds(steps):
    """Beside the queue runs its plainest form: a list that is sorted whenever somebody is to go."""
    waiting, plain, held = Waiting(LIMIT), {}, {}
    at, number, gone = 0.0, 0, []
    for kind, what in steps:
        if kind in ("put", "put_back"):
            number += 1
            one = opened(number, what, since=at)
            sizes = Counter(other.call.klass for other in plain.values())
            if kind == "put" and sizes[what] >= LIMIT:
                with pytest.raises(Busy):
                    waiting.put(one, at)
                continue
            waiting.put(one, at) if kind == "put" else waiting.put_back(one)
            plain[number] = one
        elif kind in ("take", "hold"):
            in_hand = what if kind == "take" else 0
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
    may = [
        one
        for one in plain.values()
        if one.call.call_id not in held
        and in_hand < IN_HAND_INPUTS * (SHARE[one.call.klass] if at - one.since < PATIENCE_S[one.call.klass] else 1.0)
    ]
    heads = {}
    for one in plain.values():
        if one.call.call_id not in held and one.call.klass not in heads:
            heads[one.call.klass] = one
    first = [one for one in may if heads[one.call.klass] is one]
    return min(first, key=lambda one: (one.since + PATIENCE_S[one.call.klass], RANK[one.call.klass]), default=None)
