"""Limits the open connections: the one that has waited longest for its client makes room.

Each step costs the same however many there are: who opens thousands of them must not keep the daemon from others.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Connections(Generic[T]):
    """Who is here, of whom at most so many may be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._here: set[T] = set()
        self._waiting: dict[T, None] = {}  # in the order in which they began to

    @property
    def is_too_large(self) -> bool:
        return len(self._here) > self.most

    def came(self, one: T) -> None:
        """It is here, and waits."""
        self._here.add(one)
        self._waiting[one] = None

    def waits(self, one: T) -> None:
        """From now on it waits for its client, if it is here."""
        if one in self._here:
            self._waiting.pop(one, None)
            self._waiting[one] = None

    def works(self, one: T) -> None:
        """It waits no longer."""
        self._waiting.pop(one, None)

    def leave(self, one: T) -> None:
        """It is here no longer."""
        self._here.discard(one)
        self._waiting.pop(one, None)

    def longest(self) -> T | None:
        """Who has waited longest; None if nobody waits."""
        return next(iter(self._waiting), None)
