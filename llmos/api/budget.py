"""The budget of request bodies: how many bytes of them all requests under way hold together."""

from __future__ import annotations

from llmos.abi.error import Busy

RETRY_AFTER_S = 1


class Budget:
    """Bytes that requests may hold. They are given back as the request ends, for what was read lives until then."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def share(self) -> Share:
        """One request's part of it, to be given back when the request ends."""
        return Share(self)

    def take(self, size_bytes: int) -> None:
        """Busy if there is no room for so many more."""
        if self.held_bytes + size_bytes > self._limit_bytes:
            raise Busy(
                f"The requests under way hold {self.held_bytes:,} bytes of {self._limit_bytes:,}. Try again, or raise "
                "max_held_bytes",
                limit=self._limit_bytes,
                retry_after_s=RETRY_AFTER_S,
            )
        self.held_bytes += size_bytes


class Share:
    """What one request holds: each piece of its body as it comes, and what is made of it where that is larger."""

    __slots__ = ("_budget", "_size_bytes")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Hold so many bytes more; Busy if all requests together would hold too many."""
        self._budget.take(size_bytes)
        self._size_bytes += size_bytes

    def give_back(self) -> None:
        """All that it holds."""
        self._budget.held_bytes -= self._size_bytes
        self._size_bytes = 0
