"""The legal moves of a process."""

import pytest

from llmos.abi.process import MOVES, Process, Program, Spec, State


def process(state):
    return Process(1, Spec(Program.TRAIN), state)


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_row_in_the_table_and_never_moves_to_itself(state):
    assert state in MOVES
    assert state not in MOVES[state]


def test_an_exited_process_never_moves_again():
    assert MOVES[State.EXITED] == frozenset()
    with pytest.raises(AssertionError, match="not a legal move"):
        process(State.EXITED).moved(State.READY)


def test_every_state_can_still_come_to_an_end():
    def reaches(state, seen):
        return state is State.EXITED or any(reaches(to, seen | {to}) for to in MOVES[state] if to not in seen)

    assert all(reaches(state, {state}) for state in State)


def test_an_interrupted_process_may_be_queued_again():
    assert process(State.INTERRUPTED).moved(State.QUEUED, reason="resumed").reason == "resumed"
