"""A sender that returns a model's answers is told from a person, however often one looks."""

import random

import pytest

from llmos.abi.echo import evidence_of_echo, is_echo


@pytest.mark.parametrize(("accuracy", "rows"), [(0.75, 46), (0.9, 150), (0.95, 300)])
def test_a_client_that_always_agrees_is_found(accuracy, rows):
    assert is_echo(rows, 0, accuracy)
    assert not is_echo(rows // 4, 0, accuracy)


def test_a_person_who_is_looked_at_after_every_row_is_rarely_taken_for_an_echo():
    taken, people, accuracy = 0, 300, 0.8
    for person in range(people):
        chance, agreed = random.Random(person), 0
        for rows in range(1, 400):
            agreed += chance.random() < accuracy
            if is_echo(agreed, rows - agreed, accuracy):
                taken += 1
                break
    assert taken <= 3  # the bound is one in a thousand


def test_a_row_that_differs_takes_evidence_away():
    assert evidence_of_echo(10, 1, 0.8) < evidence_of_echo(10, 0, 0.8)


def test_a_model_that_is_said_to_be_always_right_has_a_finite_test():
    assert is_echo(4_000, 0, 1.0)
    assert not is_echo(100, 0, 1.0)
