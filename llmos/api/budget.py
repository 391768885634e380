"""The budget of request bodies: limits the bytes that all requests hold together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llmos.abi.error import Busy
from llmos.abi.heap import give_back

RETRY_AFTER_S = 1
MUCH_BYTES = 1 << 20
SOON_S = 1.0  # once its answer has left and several large ones have come to their end


class BodyBudget:
    """Bytes that requests may hold. They are given back as the request ends, for what was read lives until then."""

    def __init__(self, limit_bytes: int, heap: Callable[[], None] = give_back, soon_s: float = SOON_S) -> None:
        """`heap` is called after large requests: what they held is free then, and the operating system's again."""
        self._limit_bytes = limit_bytes
        self._heap = heap
        self._soon_s = soon_s
        self._soon: asyncio.TimerHandle | None = None
        self.held_bytes = 0

    def share(self) -> BudgetShare:
        """One request's part of it, to be given back when the request ends."""
        return BudgetShare(self)

    def give_back(self, size_bytes: int) -> None:
        """A request has ended that held so many bytes."""
        self.held_bytes -= size_bytes
        if size_bytes >= MUCH_BYTES and self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(self._soon_s, self._give_back)

    def _give_back(self) -> None:
        self._soon = None
        asyncio.get_running_loop().run_in_executor(None, self._heap)

    def take(self, size_bytes: int) -> None:
        """Busy if there is no room for so many more."""
        if self.held_bytes + size_bytes > self._limit_bytes:
            raise Busy(
                f"The requests under way hold {self.held_bytes:,} bytes of {self._limit_bytes:,}. Try again, or raise "
                "max_held_bytes",
                limit=self._limit_bytes,
                retry_after_s=RETRY_AFTER_S,
                held_bytes=self.held_bytes,
            )
        self.held_bytes += size_bytes


class BudgetShare:
    """What one request holds: each piece of its body as it comes, and what is made of it where that is larger."""

    __slots__ = ("_budget", "_size_bytes")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Hold so many bytes more; Busy if all requests together would hold too many."""
        self._budget.take(size_bytes)
        self._size_bytes += size_bytes

    def give_back(self) -> None:
        """All that it holds."""
        size_bytes, self._size_bytes = self._size_bytes, 0
        self._budget.give_back(size_bytes)
