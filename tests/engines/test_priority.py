"""Whose turn it is: who is small passes who is large, all large ones advance, and what is kept of an engine's slots."""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.call import Call
from llmos.abi.process import Priority
from llmos.engines.external_generation import MANY, Delta, ExternalEngine
from llmos.engines.priority import APART, PriorityQueue
from llmos.tasks import Settings
from llmos.testing.tokenizer import PieceTokenizer

EACH = 100  # tokens of every input here


@dataclass(eq=False)
class Asked:
    """A call in hand that computes nothing."""

    call: Call
    is_large: bool
    left: int
    is_over: bool = False
    began_at: float | None = None


class Line:
    """What waits for one place where it is computed, an input at a time."""

    def __init__(self) -> None:
        self.turns = PriorityQueue()
        self.waiting: list[tuple[float, int, Asked]] = []
        self.number = 0

    def add(self, inputs: int, priority: Priority = Priority.INTERACTIVE) -> Asked:
        job = Asked(Call(self.number, "a:1", "embed", (), priority=priority), inputs > 1, inputs)
        place = self.turns.enter(job)
        for _ in range(inputs):
            self.number += 1
            heapq.heappush(self.waiting, (place, self.number, job))
            place += self.turns.step_of(job, EACH)
        return job

    def step(self) -> Asked:
        place, _, job = heapq.heappop(self.waiting)
        self.turns.start_row([(job, place, EACH)])
        job.left -= 1
        job.is_over = job.left == 0
        return job


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(2, 400), st.sampled_from(Priority), st.integers(0, 300)), min_size=1, max_size=8))
def test_a_small_call_waits_for_no_more_than_one_input_of_each_large_one(larges):
    line = Line()
    for inputs, priority, steps in larges:
        line.add(inputs, priority)
        for _ in range(min(steps, len(line.waiting))):
            line.step()
    alive = len({id(job) for _, _, job in line.waiting})
    small = line.add(1)
    waited = 0
    while line.step() is not small:
        waited += 1
    assert waited <= alive


@pytest.mark.slow
@given(st.integers(1, 5), st.sampled_from(Priority))
def test_a_large_call_starves_beside_no_number_of_small_ones(larges, priority):
    line = Line()
    jobs = [line.add(20, priority) for _ in range(larges)]
    small = 0
    while not all(job.is_over for job in jobs):
        line.add(1)
        line.add(1)  # more than can be computed
        small += line.step().is_large is False
        assert small <= 1000 * larges * APART[priority]


@pytest.mark.slow
@given(st.lists(st.integers(2, 60), min_size=2, max_size=6), st.integers(0, 40))
def test_large_calls_of_a_class_advance_by_equal_parts(sizes, head_start):
    line = Line()
    first = line.add(1000)
    for _ in range(head_start):
        line.step()
    jobs = [first] + [line.add(1000) for _ in sizes]
    before = [job.left for job in jobs]
    for _ in range(20 * len(jobs)):
        line.step()
    done = [left - job.left for left, job in zip(before, jobs, strict=True)]
    assert max(done) - min(done) <= 2


class Patient:
    """A writer whose answers end when the test says so."""

    slots, room, capacity, vocabulary = 8, 1000, 100_000, 100

    def __init__(self) -> None:
        self.tokenizer = PieceTokenizer()
        self.ends = threading.Event()
        self.begun: list[int] = []

    def check(self, settings) -> None:
        """It can do all."""

    def write(self, leg, say) -> None:
        self.begun.append(leg.job.call.call_id)
        self.ends.wait(20)
        say(Delta("done", "stop", made=1))


class Waiting(ExternalEngine):
    """An engine that a test gives its writer."""

    def load(self, base, device, dtype, threads):
        return 0


def test_large_and_background_calls_leave_slots_to_small_interactive_ones():
    writer = Patient()
    answers = Waiting()
    answers.serve(writer, "talk:1", ("generate",), Settings(max_tokens=1000))
    said = {"max_tokens": 10}
    answers.add(Call(1, "talk:1", "generate", ("a",) * (MANY + 1), said))
    for number in range(2, 20):
        answers.add(Call(number, "talk:1", "generate", ("a",), said, priority=Priority.BACKGROUND))
    answers.step()
    assert answers.figures["live"] == 6, "three quarters of the slots"
    answers.add(Call(99, "talk:1", "generate", ("a",), said))
    answers.step()
    assert answers.figures["live"] == 7
    assert 0 <= answers.progress[1] < 1
    writer.ends.set()
    ended = set()
    while not answers.is_idle:
        ended |= {chunk.call_id for chunk in answers.step() if chunk.is_last}
    assert ended == {1, *range(2, 20), 99}
