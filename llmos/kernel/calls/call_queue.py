"""The call queue of one serve process, with its limits and order; and that process as the router sees it."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from llmos.abi.error import Busy
from llmos.abi.process import Priority
from llmos.kernel.calls.pending_call import Lane, PendingCall

IN_HAND_INPUTS = 2048  # sent to a process but not yet computed; more wait in the queue
PATIENCE_S = {
    Priority.INTERACTIVE: 0.0,
    Priority.BATCH: 5.0,
    Priority.BACKGROUND: 30.0,
}  # for at most this long, later calls of a higher priority go first
LONGEST_RETRY_S = 60
HALF_LIFE_S = 300.0  # a call this long ago counts half of one now
SETTLES_S = 0.25  # so long a model that was brought stays in any case

LANES: tuple[Lane, ...] = tuple((priority, is_large) for priority in Priority for is_large in (False, True))
ABOVE = {  # whose inputs in hand a lane waits for: its own, and those of higher priorities that are as large
    (priority, is_large): [(other, is_large) for other in tuple(Priority)[: place + 1]]
    for place, priority in enumerate(Priority)
    for is_large in (False, True)
}


class CallQueue:
    """Accepted calls that were not sent yet. Some are held: what they need (a model) is not there."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: dict[int, PendingCall] = {}
        self._held: dict[str, list[int]] = {}
        self._next: dict[Lane, list[int]] = {lane: [] for lane in LANES}  # heaps: the order in which they came
        self._sizes: Counter[Priority] = Counter()

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[PendingCall]:
        return iter(self._calls.values())

    def put(self, opened: PendingCall, at: float) -> None:
        """One more waits; Busy if there are as many of its class as may."""
        priority = opened.call.priority
        if self._sizes[priority] >= self._limit:
            raise self._busy(opened, at)
        self.put_back(opened)

    def put_back(self, opened: PendingCall) -> None:
        """It was accepted before, so it waits again, however many do; its place is that of its age."""
        self._calls[opened.call.call_id] = opened
        self._sizes[opened.call.priority] += 1
        heapq.heappush(self._next[opened.lane], opened.call.call_id)

    def remove(self, opened: PendingCall) -> None:
        """It waits no more, if it did."""
        call_id, heap = opened.call.call_id, self._next[opened.lane]
        if self._calls.pop(call_id, None) is not None:
            self._sizes[opened.call.priority] -= 1
            if heap and heap[0] == call_id:
                heapq.heappop(heap)  # any other is skipped when its turn comes

    def hold(self, opened: PendingCall, key: str) -> None:
        """It lets others pass until `key` is let go."""
        heap = self._next[opened.lane]
        assert heap[0] == opened.call.call_id, "only who would go next is held"
        heapq.heappop(heap)
        self._held.setdefault(key, []).append(opened.call.call_id)

    def let_go(self, key: str | None = None) -> None:
        """Those held under this key, or under any, take their places again."""
        for one in [key] if key is not None else list(self._held):
            for call_id in self._held.pop(one, ()):
                if call_id in self._calls:
                    heapq.heappush(self._next[self._calls[call_id].lane], call_id)

    def next(self, in_hand: Mapping[Lane, int], at: float) -> PendingCall | None:
        """Who goes now, given the uncomputed inputs that the process has in hand; it stays until removed or held.

        The higher class goes first, but passes nobody who has waited out the patience of its own. A small call waits
        for no large one, and none for those of a lower class: the process computes them in that order too.
        """
        best: PendingCall | None = None
        for lane, heap in self._next.items():
            if not heap or (opened := self._first(heap)) is None:
                continue
            if sum([in_hand.get(above, 0) for above in ABOVE[lane]]) >= IN_HAND_INPUTS:
                continue
            if best is None or _turn(opened) < _turn(best):
                best = opened
        return best

    def _first(self, heap: list[int]) -> PendingCall | None:
        while heap and heap[0] not in self._calls:
            heapq.heappop(heap)
        return self._calls[heap[0]] if heap else None

    def _busy(self, opened: PendingCall, at: float) -> Busy:
        priority = opened.call.priority
        since = min(one.since for one in self._calls.values() if one.call.priority is priority)
        retry_s = min(max(math.ceil(at - since), 1), LONGEST_RETRY_S)  # as long as the first in the queue waits by now
        return Busy(
            f"{self._sizes[priority]:,} {priority} calls wait for this process already. Try again in {retry_s} s, send "
            "more inputs in one call, or raise max_waiting_calls",
            model=opened.call.model,
            waiting=self._sizes[priority],
            limit=self._limit,
            retry_after_s=retry_s,
        )


@dataclass(slots=True)
class RecentUse:
    """How much something was used of late: its calls, each worth half as much after each half-life."""

    calls: float = 0.0
    at: float = 0.0  # when that was counted: its last call's beginning or end

    def count(self, at: float, calls: float = 1.0) -> None:
        self.calls = self.of_late(at) + calls
        self.at = at

    def of_late(self, at: float) -> float:
        return self.calls * float(0.5 ** (max(at - self.at, 0.0) / HALF_LIFE_S))


@dataclass(slots=True, eq=False)
class ServeProcess:
    """One serve process, as calls see it."""

    pid: int
    base: str
    device: str
    engine: str
    waiting: CallQueue
    is_ready: bool = False
    is_returning: bool = False  # it was asked to end and to start again: its end is no crash of its calls
    models: set[str] = field(default_factory=set)  # attached, so that calls may name them
    attaching: set[str] = field(default_factory=set)
    sent: dict[int, PendingCall] = field(default_factory=dict)
    in_hand: Counter[Lane] = field(default_factory=Counter)  # what was sent and is not computed yet
    calls_of: Counter[str] = field(default_factory=Counter)  # how many calls, sent or waiting, name each model
    uses: dict[str, RecentUse] = field(default_factory=dict)  # of each model ever called here
    came_at: dict[str, float] = field(default_factory=dict)  # when each attached model did
    asked_at: dict[str, float] = field(default_factory=dict)  # since when each attaching one is waited for
    yielding: set[str] = field(default_factory=set)  # attached ones whose calls wait, so that another may come
    sent_of: Counter[str] = field(default_factory=Counter)  # how many calls in hand name each model
    apart: dict[int, PendingCall] = field(
        default_factory=dict
    )  # calls of which one ended it: they are sent one at a time
    used_at: float = 0.0
    stays_since: float = 0.0  # when it became ready, or went on serving after a drain that took too long
    is_yielding: bool = False  # its calls wait, so that another base may come
    yields_since: float = 0.0

    def resting(self, now: float) -> set[str]:
        """The attached models that nobody needs just now, or that have yielded and have no call in hand.

        One that has only just come is not among them: who called it is likely to call again.
        """
        idle = {model for model in self.came_at if not self.calls_of[model] or model in self.yielding}
        return {model for model in idle if not self.sent_of[model] and now - self.came_at[model] >= SETTLES_S}

    def wanted_models(self) -> set[str]:
        """The models that calls wait for here."""
        return self.attaching & self.calls_of.keys() if self.attaching else set()

    def forget(self, model: str) -> None:
        """It is not attached here any more."""
        self.models.discard(model)
        self.came_at.pop(model, None)
        self.yielding.discard(model)

    def unsend(self, opened: PendingCall) -> None:
        """The process has it in hand no more, if it had."""
        if self.sent.pop(opened.call.call_id, None) is not None:
            self.in_hand[opened.lane] -= opened.size - opened.done
            self.sent_of[opened.call.model] -= 1
            opened.is_sent, opened.done = False, 0


def _turn(opened: PendingCall) -> float:
    return opened.since + PATIENCE_S[opened.call.priority]
