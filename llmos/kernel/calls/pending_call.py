"""A pending call: its caller waits, and its answer arrives in chunks."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from llmos.abi.call import Call, Chunk, size_of
from llmos.abi.process import Priority

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
