"""Fair queueing of calls in an engine: small calls first, large ones share, lower priorities last.

A place is a number of tokens. A call gets its place when it comes, and who has the lowest goes next; of a large call
each input stands behind the last by what that one costs. The present place advances by half of what is computed,
divided by the large calls in hand: so small calls stand before all that a large one has still to do, as long as they
leave it half of the work; beyond that it takes its turns, and none starves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from weakref import WeakSet

from llmos.abi.call import Call
from llmos.abi.process import Priority

SELDOM = 8  # a step for those of a lower class, while a higher one has work
BEHIND = {
    Priority.INTERACTIVE: 0,
    Priority.BATCH: 1 << 12,
    Priority.BACKGROUND: 1 << 14,
}  # tokens that a class stands behind
APART = {
    Priority.INTERACTIVE: 1,
    Priority.BATCH: 4,
    Priority.BACKGROUND: 16,
}  # times its cost, an input is before the next


class PrioritizedJob(Protocol):
    """A call in hand, as far as turns go."""

    call: Call
    is_large: bool
    is_over: bool


class PriorityQueue:
    """Gives calls their places."""

    def __init__(self) -> None:
        self._now = 0.0
        self._large: WeakSet[PrioritizedJob] = WeakSet()
        self._front: dict[Priority, float] = {}  # where the large calls of a class are by now

    def enter(self, job: PrioritizedJob) -> float:
        """The place of a call's first input. A large one begins beside those of its class that are under way."""
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
        """How far behind an input of so many tokens the next one of the same call stands."""
        return tokens * APART[job.call.priority] if job.is_large else 0

    def start_row(self, row: Iterable[tuple[PrioritizedJob, float, int]]) -> None:
        """A row is being computed: of these calls, whose places these were, so many tokens."""
        tokens = 0
        for job, place, count in row:
            tokens += count
            if job.is_large:
                self._front[job.call.priority] = max(place, self._front.get(job.call.priority, place))
        self._now += tokens / (2 * max(1, sum(not job.is_over for job in self._large)))


def highest(classes: Iterable[Priority]) -> Priority:
    """That of those whose turn comes first; where there are none, the lowest of all."""
    return min(classes, key=BEHIND.__getitem__, default=Priority.BACKGROUND)


def is_lower(priority: Priority, other: Priority) -> bool:
    """Whether those of this class yield to those of the other."""
    return BEHIND[priority] > BEHIND[other]
