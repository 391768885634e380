"""A call that came before its user was erased leaves no text, however many users are erased."""

from __future__ import annotations

from llmos.abi.call_record import new_call_id
from llmos.abi.disagreement import CallOrigin
from llmos.kernel.requests.erased_users import ErasedUsers


def call_of(user: str, at: float) -> CallOrigin:
    return CallOrigin(new_call_id(at), user)


def test_calls_of_before_are_erased_and_later_ones_and_those_of_others_are_not():
    erased = ErasedUsers()
    erased.add("ann", 100.0)
    assert erased.has(call_of("ann", 99.0))
    assert not erased.has(call_of("ann", 101.0))
    assert not erased.has(call_of("bob", 99.0))
    erased.add("ann", 200.0)
    assert erased.has(call_of("ann", 101.0))


def test_a_call_of_an_erased_user_whose_time_nobody_knows_is_erased():
    erased = ErasedUsers()
    erased.add("ann", 100.0)
    assert erased.has(CallOrigin("no id", "ann"))
    assert not erased.has(CallOrigin("no id", "bob"))


def test_to_erase_nobody_erases_no_call_without_a_user():
    erased = ErasedUsers()
    erased.add("", 100.0)
    assert not erased.has(call_of("", 99.0))


def test_who_gives_way_to_newer_ones_stays_erased():
    erased = ErasedUsers(most=2)
    for at, user in enumerate(("ann", "bob", "cat"), 100):
        erased.add(user, float(at))
    assert all(erased.has(call_of(user, 99.0)) for user in ("ann", "bob", "cat", "dan"))
    assert not erased.has(call_of("ann", 101.0))
    assert erased.has(call_of("cat", 102.0))
