"""Pending calls: a caller waits for each, chunks answer it, and one timer watches the deadlines of all."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from math import inf

from llmos.abi.call import Call, Chunk, size_of
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
    crashes: int = 0
    size: int = 0  # inputs, answers or documents that it asks for
    done: int = 0  # of those: what its process has computed
    chunks: deque[Chunk] = field(default_factory=deque)
    lane: Lane = (Priority.INTERACTIVE, False)
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
