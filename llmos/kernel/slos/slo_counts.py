"""The counters of an SLO: calls, and bad ones of each objective, by minute for some hours and by hour for 30 days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmos.abi.slo import PERIOD_S, WINDOWS

MINUTE_S, HOUR_S = 60, 3_600
MINUTES = int(WINDOWS["6h"]) // MINUTE_S + 1  # windows up to this are told from minutes
HOURS = int(PERIOD_S) // HOUR_S + 1


@dataclass(frozen=True, slots=True)
class KeptCounts:
    """The counters as their file has them: by the number of the minute and of the hour since 1970."""

    objectives: tuple[str, ...]
    minutes: dict[str, list[int]] = field(default_factory=dict)
    hours: dict[str, list[int]] = field(default_factory=dict)


class SloCounts:
    """A row of numbers for each minute and each hour: all calls, then the bad ones of each objective."""

    def __init__(self, objectives: int) -> None:
        self._width = objectives + 1
        self._minutes: dict[int, list[int]] = {}
        self._hours: dict[int, list[int]] = {}
        self._at = -1  # the minute of the rows below
        self._minute: list[int] = []
        self._hour: list[int] = []

    def add(self, now: float, bad: list[int]) -> None:
        """Count a call, which is bad for the objectives of these numbers, from 1."""
        minute = int(now) // MINUTE_S
        if minute != self._at:
            self._turn(minute)
        self._minute[0] += 1
        self._hour[0] += 1
        for place in bad:
            self._minute[place] += 1
            self._hour[place] += 1

    def within(self, now: float, seconds: float) -> list[int]:
        """The sums of the last seconds: of whole minutes, or of whole hours for more than six of them."""
        unit = MINUTE_S if seconds <= WINDOWS["6h"] else HOUR_S
        rows = self._minutes if unit == MINUTE_S else self._hours
        last = int(now) // unit
        first = last - int(seconds) // unit + 1
        found = [row for at, row in rows.items() if first <= at <= last]
        return [sum(column) for column in zip(*found, strict=True)] if found else [0] * self._width

    def for_file(self, objectives: tuple[str, ...]) -> KeptCounts:
        """As the file has it."""
        minutes = {str(at): list(row) for at, row in self._minutes.items()}
        return KeptCounts(objectives, minutes, {str(at): list(row) for at, row in self._hours.items()})

    def take_over(self, minutes: Mapping[str, list[int]], hours: Mapping[str, list[int]]) -> None:
        """Go on from what a file had; rows of another width are left out."""
        for into, rows in ((self._minutes, minutes), (self._hours, hours)):
            into.update({int(at): list(row) for at, row in rows.items() if len(row) == self._width})
        self._at = -1

    def _turn(self, minute: int) -> None:
        """Begin a minute, and forget those that no window has."""
        hour = minute * MINUTE_S // HOUR_S
        self._at = minute
        self._minute = self._minutes.setdefault(minute, [0] * self._width)
        self._hour = self._hours.setdefault(hour, [0] * self._width)
        for rows, last, most in ((self._minutes, minute, MINUTES), (self._hours, hour, HOURS)):
            if len(rows) > most:
                for at in [one for one in rows if one <= last - most]:
                    del rows[at]
