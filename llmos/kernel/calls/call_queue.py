"""The call queue of one serve process: limits by priority, and which call is sent next."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping

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


def _turn(opened: PendingCall) -> float:
    return opened.since + PATIENCE_S[opened.call.priority]
