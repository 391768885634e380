"""Deadlines of pending calls, with one timer for all of them."""

from __future__ import annotations

import asyncio
from math import inf

from llmos.kernel.calls.pending_call import PendingCall

GRAIN_S = 0.01  # at most so late is a deadline noticed, so that many of them ring together


class Deadlines:
    """Most are taken back long before their time, so that setting one is no more than an entry in a table."""

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
