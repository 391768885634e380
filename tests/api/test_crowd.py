"""All connections together: who has waited longest for its client goes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmos.api.connection import Connections


def test_who_has_waited_longest_is_known_and_who_works_does_not_wait():
    crowd = Connections[str](2)
    for one in "abc":
        crowd.came(one)
    assert (crowd.is_too_large, crowd.longest()) == (True, "a")
    crowd.works("a")
    assert crowd.longest() == "b"
    crowd.waits("a")
    crowd.leave("b")
    assert (crowd.is_too_large, crowd.longest()) == (False, "c")
    crowd.works("c")
    crowd.works("a")
    assert crowd.longest() is None


def test_who_has_left_waits_no_more():
    crowd = Connections[str](1)
    crowd.came("a")
    crowd.leave("a")
    crowd.leave("a")
    crowd.waits("a")
    assert (crowd.longest(), crowd.is_too_large) == (None, False)


@given(st.lists(st.tuples(st.sampled_from(["came", "waits", "works", "leave"]), st.integers(0, 4))))
def test_it_is_what_a_list_of_them_with_times_would_say(steps):
    crowd, since, here = Connections[int](2), {}, set()
    for now, (step, one) in enumerate(steps):
        if step == "came" and one in here:
            continue
        getattr(crowd, step)(one)
        here |= {one} if step == "came" else set()
        here -= {one} if step == "leave" else set()
        if step in ("came", "waits") and one in here:
            since[one] = now
        elif step in ("works", "leave"):
            since.pop(one, None)
        assert crowd.longest() == min(since, key=since.__getitem__, default=None)
        assert crowd.is_too_large == (len(here) > 2)
