"""In which form a server is asked: what moves it, and what does not."""

from __future__ import annotations

from llmos.programs.endpoint_client import PASSED_OVER, KnownForm


def told(form: KnownForm, *taken: int) -> int:
    for one in taken:
        form.learn(form.first, one)
    return form.first


def test_a_form_that_was_never_taken_is_given_up_for_the_next_that_was():
    assert told(KnownForm(), *[2] * (PASSED_OVER - 1)) == 0
    assert told(KnownForm(), *[2] * PASSED_OVER) == 2
    assert told(KnownForm(), 3, *[1] * (PASSED_OVER - 1)) == 1


def test_a_form_that_was_taken_once_stays_whatever_is_refused_in_it():
    assert told(KnownForm(), 0, *[2] * 20) == 0
    assert told(KnownForm(), 2, 0, *[2] * 20) == 0


def test_what_was_asked_before_the_form_moved_says_nothing_of_the_new_one():
    form = KnownForm()
    assert told(form, *[1] * PASSED_OVER) == 1
    for _ in range(PASSED_OVER):
        form.learn(0, 2)
    assert form.first == 1
    assert told(form, *[3] * PASSED_OVER) == 3
