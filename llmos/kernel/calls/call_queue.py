"""Pending calls with their deadlines, the queue of one serve process, and that process as the router sees it."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from llmos.abi.call import Call, Chunk, size_of
from llmos.abi.error import Busy
from llmos.abi.process import Priority

GRAIN_S = 0.01  # at most so late is a deadline noticed, so that many of them ring together
SMALL_INPUTS = 32  # a call of no more never waits behind larger ones

Lane = tuple[Priority, bool]  # calls of one class, small or large: each lane in the order in which they came


@dataclass(slots=True, eq=False)
class PendingCall:
    """One call on its way. The kernel puts pieces, the one who waits takes them."""

    call: Call
    pid: int
    since: float = 0.0  # when it came
    deadline_at: float | None = None  # an answer after this is for nobody
    is_sent: bool = False
    was_sent: bool = False  # at any time, also if it waits again now
    has_begun: bool = False  # a piece of the answer is here, so it must not be asked again
    is_told: bool = False  # the caller has had a piece of it
    is_cold: bool = False  # its process was still starting when it came
    crashes: int = 0
    size: int = 0  # inputs, answers or documents that it asks for
    done: int = 0  # of those: what its process has computed
    chunks: deque[Chunk] = field(default_factory=deque)
    lane: Lane = (Priority.INTERACTIVE, False)
    sent_at: float = 0.0  # when it was last sent
    _taker: asyncio.Future[None] | None = None

    def __post_init__(self) -> None:
        self.size = size_of(self.call)
        self.lane = (self.call.priority, self.size > SMALL_INPUTS)

    def is_late(self, at: float) -> bool:
        return self.deadline_at is not None and at >= self.deadline_at

    def put(self, chunk: Chunk) -> None:
        """The next piece is here."""
        self.chunks.append(chunk)
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    async def take(self) -> Chunk:
        """The next piece; TimeoutError if it expires before that comes. One takes at a time."""
        if not self.chunks:
            self._taker = asyncio.get_running_loop().create_future()
            try:
                await self._taker
            finally:
                self._taker = None
        return self.chunks.popleft()

    def expire(self) -> None:
        """The time for the next piece is over."""
        if self._taker is not None and not self._taker.done():
            self._taker.set_exception(TimeoutError())


class Deadlines:
    """The deadlines of all pending calls. Most are taken back early, so setting one is an entry in a table."""

    def __init__(self) -> None:
        self._at: dict[PendingCall, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = inf
        self._rang_at = -inf

    def set(self, opened: PendingCall, within_s: float) -> None:
        """Whoever waits for the next piece of this call waits for so long, by the event loop's clock."""
        loop = asyncio.get_running_loop()
        at = self._at[opened] = loop.time() + within_s
        if at < self._rings_at:
            self._ring_at(at, loop)

    def take_back(self, opened: PendingCall) -> None:
        """It is waited for no longer."""
        self._at.pop(opened, None)

    def _ring_at(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = max(at, self._rang_at + GRAIN_S)
        self._timer = loop.call_at(self._rings_at, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        now = max(loop.time(), self._rings_at)  # a timer may ring within the clock's resolution before its time
        self._rings_at, self._rang_at = inf, now
        for opened in [one for one, at in self._at.items() if at <= now]:
            del self._at[opened]
            opened.expire()
        if self._at:
            self._ring_at(min(self._at.values()), loop)


IN_HAND_INPUTS = 2048  # inputs sent to a process and not yet computed; more wait in the queue
PATIENCE_S = {
    Priority.INTERACTIVE: 0.0,
    Priority.BATCH: 5.0,
    Priority.BACKGROUND: 30.0,
}  # how long calls of a higher priority may overtake an earlier call
LONGEST_RETRY_S = 60
HALF_LIFE_S = 300.0  # the half-life of a call in the count of recent use
SETTLES_S = 0.25  # a model stays attached at least this long

LANES: tuple[Lane, ...] = tuple((priority, is_large) for priority in Priority for is_large in (False, True))
# the lanes whose inputs in progress count for a lane: its own, and those of higher priorities at least as large
ABOVE = {
    (priority, is_large): [(other, is_large) for other in tuple(Priority)[: place + 1]]
    for place, priority in enumerate(Priority)
    for is_large in (False, True)
}


class CallQueue:
    """Accepted calls that were not sent yet. Some are held until what they need, such as a model, is there."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: dict[int, PendingCall] = {}
        self._held: dict[str, list[int]] = {}
        self._next: dict[Lane, list[int]] = {lane: [] for lane in LANES}  # heaps, in order of arrival
        self._sizes: Counter[Priority] = Counter()

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[PendingCall]:
        return iter(self._calls.values())

    def put(self, opened: PendingCall, at: float) -> None:
        """Add a call; Busy if the queue of its priority is full."""
        priority = opened.call.priority
        if self._sizes[priority] >= self._limit:
            raise self._busy(opened, at)
        self.put_back(opened)

    def put_back(self, opened: PendingCall) -> None:
        """Add a call that was accepted before, regardless of the limit; it keeps its place by age."""
        self._calls[opened.call.call_id] = opened
        self._sizes[opened.call.priority] += 1
        heapq.heappush(self._next[opened.lane], opened.call.call_id)

    def remove(self, opened: PendingCall) -> None:
        """Remove a call, if it is here."""
        call_id, heap = opened.call.call_id, self._next[opened.lane]
        if self._calls.pop(call_id, None) is not None:
            self._sizes[opened.call.priority] -= 1
            if heap and heap[0] == call_id:
                heapq.heappop(heap)  # others are skipped when they reach the front

    def hold(self, opened: PendingCall, key: str) -> None:
        """Hold a call, so that others pass it, until `key` is let go."""
        heap = self._next[opened.lane]
        assert heap[0] == opened.call.call_id, "only who would go next is held"
        heapq.heappop(heap)
        self._held.setdefault(key, []).append(opened.call.call_id)

    def let_go(self, key: str | None = None) -> None:
        """Release the calls held under this key, or all held calls."""
        for one in [key] if key is not None else list(self._held):
            for call_id in self._held.pop(one, ()):
                if call_id in self._calls:
                    heapq.heappush(self._next[self._calls[call_id].lane], call_id)

    def next(self, in_hand: Mapping[Lane, int], at: float) -> PendingCall | None:
        """The call to send next, given the inputs in progress at the process; it stays until removed or held.

        Higher priorities go first, but do not overtake a call that has waited for its priority's patience. A small call
        waits for no large one and for none of a lower priority, because the process computes them in that order too.
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
        # the time that the first call in the queue has waited
        retry_s = min(max(math.ceil(at - since), 1), LONGEST_RETRY_S)
        return Busy(
            f"{self._sizes[priority]:,} {priority} calls wait for this process already. Try again in {retry_s} s, send "
            "more inputs in one call, or raise max_waiting_calls",
            model=opened.call.model,
            waiting=self._sizes[priority],
            limit=self._limit,
            retry_after_s=retry_s,
            priority=priority,
        )


@dataclass(slots=True)
class RecentUse:
    """Recent use: each call counts, and its weight halves every half-life."""

    calls: float = 0.0
    at: float = 0.0  # when it was last counted: at the last call's beginning or end

    def count(self, at: float, calls: float = 1.0) -> None:
        self.calls = self.of_late(at) + calls
        self.at = at

    def of_late(self, at: float) -> float:
        return self.calls * float(0.5 ** (max(at - self.at, 0.0) / HALF_LIFE_S))


@dataclass(slots=True, eq=False)
class ServeProcess:
    """One serve process, as the router sees it."""

    pid: int
    base: str
    device: str
    engine: str
    waiting: CallQueue
    is_ready: bool = False
    is_returning: bool = False  # it was asked to restart, so its end is not a crash
    is_new: bool = True  # it has not been ready yet, and not crashed either
    models: set[str] = field(default_factory=set)  # attached models
    attaching: set[str] = field(default_factory=set)
    sent: dict[int, PendingCall] = field(default_factory=dict)
    in_hand: Counter[Lane] = field(default_factory=Counter)  # sent and not computed yet
    calls_of: Counter[str] = field(default_factory=Counter)  # for each model, the calls sent or waiting
    uses: dict[str, RecentUse] = field(default_factory=dict)  # of each model ever called here
    came_at: dict[str, float] = field(default_factory=dict)  # when each attached model was attached
    asked_at: dict[str, float] = field(default_factory=dict)  # since when each requested model is awaited
    yielding: set[str] = field(default_factory=set)  # attached models whose calls wait, to make room for another
    sent_of: Counter[str] = field(default_factory=Counter)  # for each model, the calls in progress
    apart: dict[int, PendingCall] = field(default_factory=dict)  # a suspect crashed it: suspects are sent one at a time
    used_at: float = 0.0
    stays_since: float = 0.0  # when it became ready, or when a drain was given up
    is_yielding: bool = False  # its calls wait, to make room for another base
    yields_since: float = 0.0

    def resting(self, now: float) -> set[str]:
        """The attached models without calls, and yielding ones without calls in progress.

        A model that was attached just now is left out: its caller is likely to call again.
        """
        idle = {model for model in self.came_at if not self.calls_of[model] or model in self.yielding}
        return {model for model in idle if not self.sent_of[model] and now - self.came_at[model] >= SETTLES_S}

    def wanted_models(self) -> set[str]:
        """The models that calls wait for here."""
        return self.attaching & self.calls_of.keys() if self.attaching else set()

    def forget(self, model: str) -> None:
        """Remove a model that is not attached any more."""
        self.models.discard(model)
        self.came_at.pop(model, None)
        self.yielding.discard(model)

    def unsend(self, opened: PendingCall) -> None:
        """Remove a call from those in progress, if it is there."""
        if self.sent.pop(opened.call.call_id, None) is not None:
            self.in_hand[opened.lane] -= opened.size - opened.done
            self.sent_of[opened.call.model] -= 1
            opened.is_sent, opened.done = False, 0


def _turn(opened: PendingCall) -> float:
    return opened.since + PATIENCE_S[opened.call.priority]
