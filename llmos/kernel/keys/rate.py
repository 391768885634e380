"""Counts of what was used: in any 60 seconds, and on a day of UTC. Time is passed in; nothing waits here."""

from __future__ import annotations

from collections import deque

MINUTE_S = 60
DAY_S = 86_400


class MinuteCount:
    """What was used in the last 60 seconds, in slices of one second: at most 61 of them are kept.

    A slice counts until all of it is older than 60 seconds. So any 60 seconds have at most what is counted here, and
    what was used more than 61 seconds ago is never counted.
    """

    __slots__ = ("_slices", "total")

    def __init__(self) -> None:
        self._slices: deque[list[int]] = deque()  # [second, amount], oldest first
        self.total = 0

    def amount_at(self, steady: float) -> int:
        """The amount that counts now, by a clock that never goes back."""
        oldest = int(steady) - MINUTE_S
        while self._slices and self._slices[0][0] < oldest:
            self.total -= self._slices.popleft()[1]
        return self.total

    def add(self, amount: int, steady: float) -> None:
        """Use so much now."""
        second = int(steady)
        if self._slices and self._slices[-1][0] == second:
            self._slices[-1][1] += amount
        else:
            self._slices.append([second, amount])
        self.total += amount

    def empty_in_s(self, steady: float) -> float:
        """Seconds until nothing of what counts now does any more."""
        return max(0.0, self._slices[-1][0] + MINUTE_S + 1 - steady) if self._slices else 0.0

    def free_in_s(self, amount: int, steady: float) -> float:
        """Seconds until so much of what counts now no longer does."""
        for second, one in self._slices:
            amount -= one
            if amount <= 0:
                return max(0.0, second + MINUTE_S + 1 - steady)
        return float(MINUTE_S + 1)


class DayCount:
    """What was used on this day of UTC."""

    __slots__ = ("_day", "_total")

    def __init__(self, used: int = 0, now: float = 0.0) -> None:
        self._day, self._total = int(now // DAY_S), used

    def amount_at(self, now: float) -> int:
        """The amount of the day that it is now; `now` is in seconds since the epoch."""
        day = int(now // DAY_S)
        if day != self._day:
            self._day, self._total = day, 0
        return self._total

    def add(self, amount: int, now: float) -> None:
        """Use so much now."""
        self._total = self.amount_at(now) + amount


def rest_of_day_s(now: float) -> float:
    """Seconds until the next day of UTC begins."""
    return DAY_S - now % DAY_S
