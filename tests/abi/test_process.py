"""The legal moves of a process."""

import pytest

from llmos.abi.api_types import process_json, process_of
from llmos.abi.process import TRANSITIONS, Process, Progress, Spec, State
from llmos.abi.wire import from_json, to_json


def process(state):
    return Process(1, Spec("train"), state)


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_row_in_the_table_and_never_moves_to_itself(state):
    assert state in TRANSITIONS
    assert state not in TRANSITIONS[state]


def test_an_exited_process_never_moves_again():
    assert TRANSITIONS[State.EXITED] == frozenset()
    with pytest.raises(AssertionError):
        process(State.EXITED).moved(State.READY)


def test_every_state_can_still_come_to_an_end():
    def reaches(state, seen):
        return state is State.EXITED or any(reaches(to, seen | {to}) for to in TRANSITIONS[state] if to not in seen)

    assert all(reaches(state, {state}) for state in State)


def test_an_interrupted_process_may_be_queued_again():
    assert process(State.INTERRUPTED).moved(State.QUEUED, reason="resumed").reason == "resumed"


def test_a_figure_that_is_no_number_is_left_out_and_the_process_can_be_read_again():
    progress = Progress("done", 1, 1, figures={"f1": 0.5, "macro_f1": float("nan"), "loss": float("inf")})
    assert progress.figures == {"f1": 0.5}
    running = Process(1, Spec("evaluate"), progress=progress)
    assert process_of(process_json(running)) == running
    assert from_json(to_json(running), Process) == running


def test_progress_counts_in_numbers():
    with pytest.raises(ValueError):
        Progress("train", float("nan"), 1)
