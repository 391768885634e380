"""Fair queueing of calls in an engine: small calls first, large ones share, lower priorities last.

A place is a position in virtual time, counted in tokens; the lowest place goes next. A call gets its place when it
arrives, and each further input of a large call stands behind the last one by that one's cost. Virtual time advances by
half of the computed tokens, divided by the number of large calls. So small calls overtake large ones until they take
half of the work; beyond that, large calls get their turns, and none starves.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import Protocol
from weakref import WeakSet

from llmos.abi.call import Call
from llmos.abi.process import Priority

SELDOM = 8  # while a higher priority has work, a lower one gets every eighth step
BEHIND = {
    Priority.INTERACTIVE: 0,
    Priority.BATCH: 1 << 12,
    Priority.BACKGROUND: 1 << 14,
}  # the tokens that a priority starts behind
APART = {
    Priority.INTERACTIVE: 1,
    Priority.BATCH: 4,
    Priority.BACKGROUND: 16,
}  # the distance to the next input of a large call, times the cost


class PrioritizedJob(Protocol):
    """A call in progress, as the queue sees it."""

    call: Call
    is_large: bool
    is_over: bool
    began_at: float | None  # when its first pass began


class PriorityQueue:
    """Assigns places to calls."""

    def __init__(self) -> None:
        self._now = 0.0
        self._large: WeakSet[PrioritizedJob] = WeakSet()
        self._front: dict[Priority, float] = {}  # the place that the large calls of each priority have reached

    def enter(self, job: PrioritizedJob) -> float:
        """The place of a call's first input. A large call starts where the other large calls of its priority are."""
        priority, place = job.call.priority, self._now + BEHIND[job.call.priority]
        if not job.is_large:
            return place
        if any(other.call.priority is priority for other in self._large if not other.is_over):
            place = max(place, self._front.get(priority, place))
        else:
            self._front.pop(priority, None)
        self._large.add(job)
        return place

    def step_of(self, job: PrioritizedJob, tokens: int) -> int:
        """The distance to the call's next input, after one of this many tokens."""
        return tokens * APART[job.call.priority] if job.is_large else 0

    def start_row(self, row: Iterable[tuple[PrioritizedJob, float, int]]) -> None:
        """Advance virtual time by a row, given as (call, place, tokens), which begins now."""
        tokens, now = 0, perf_counter()
        for job, place, count in row:
            tokens += count
            if job.began_at is None:
                job.began_at = now
            if job.is_large:
                self._front[job.call.priority] = max(place, self._front.get(job.call.priority, place))
        self._now += tokens / (2 * max(1, sum(not job.is_over for job in self._large)))


def highest(classes: Iterable[Priority]) -> Priority:
    """The highest of these priorities; the lowest there is if there are none."""
    return min(classes, key=BEHIND.__getitem__, default=Priority.BACKGROUND)


def is_lower(priority: Priority, other: Priority) -> bool:
    """Whether the first priority yields to the other."""
    return BEHIND[priority] > BEHIND[other]
