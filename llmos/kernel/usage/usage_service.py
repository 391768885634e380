"""Counts usage in memory, adds it to the file every few seconds, and shows it.

A call pays an addition. A kill loses what was counted since the last writing, a few seconds; a file that cannot be
written loses nothing until the memory for it is full.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from llmos.abi.usage import UsageFilter, UsagePart, UsageRow
from llmos.kernel.usage.usage_file import DAY_S, FILE, Place, UsageFile, day_text

WRITE_EVERY_S = 5.0
SAY_EVERY_S = 60.0  # a failure that goes on is said once in this time
MOST_WAITING = 20_000  # rows that are not written yet; the next ones are added up as OTHERS
OTHERS = "(others)"
log = logging.getLogger(__name__)


class UsageService:
    """The usage of one home. `days` are kept, today among them. `clock` is wall time."""

    def __init__(
        self,
        home: Path,
        days: int,
        *,
        clock: Callable[[], float] = time.time,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._file = UsageFile(home / FILE)
        self._days = days
        self._clock = clock
        self._most_waiting = most_waiting
        self._waiting: dict[Place, list[int]] = {}  # counted and not written: requests, errors, tokens in and out
        self._writing = asyncio.Lock()
        self._said_at = -SAY_EVERY_S
        self._start_day = -1
        self._at_start: dict[str, tuple[int, int]] = {}  # requests and tokens of that day, by key

    def count(self, key: str, model: str, *, is_ok: bool, input_tokens: int, output_tokens: int) -> None:
        """Count a call that has ended."""
        place = (int(self._clock() // DAY_S), key, model)
        counts = self._waiting.get(place)
        if counts is None:
            counts = self._counts_at(place)
        counts[0] += 1
        if not is_ok:
            counts[1] += 1
        counts[2] += input_tokens
        counts[3] += output_tokens

    def open(self) -> None:
        """Read what keys have used today, from which their limits of a day go on."""
        self._start_day = int(self._clock() // DAY_S)
        today = day_text(self._start_day)
        try:
            rows = self._file.find(UsageFilter((UsagePart.KEY,), since=today, until=today))
        except (sqlite3.Error, OSError) as error:
            log.error("%s cannot be read: %s. Limits of a day begin anew", FILE, error)
            return
        self._at_start = {row.key: (row.requests, row.input_tokens + row.output_tokens) for row in rows}

    def used_before_start(self, key: str) -> tuple[int, int]:
        """The requests and tokens that a key had used today when this daemon started."""
        is_today = int(self._clock() // DAY_S) == self._start_day
        return self._at_start.get(key, (0, 0)) if is_today else (0, 0)

    async def find(self, wanted: UsageFilter) -> list[UsageRow]:
        """What was used until now."""
        await self.write()
        return await asyncio.to_thread(self._file.find, wanted)

    async def run(self) -> None:
        """Write every few seconds, until this is cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            try:
                await self.write()
            except Exception:  # the top of a loop: the next writing may succeed
                log.exception("usage was not written")

    async def write(self) -> None:
        """Add what was counted to the file. What could not be written waits for the next time."""
        async with self._writing:
            waiting, self._waiting = self._waiting, {}
            if waiting and not await asyncio.to_thread(self._write, waiting):
                self._put_back(waiting)

    def close(self) -> None:
        """Write what is left."""
        waiting, self._waiting = self._waiting, {}
        if waiting:
            self._write(waiting)

    def _write(self, waiting: dict[Place, list[int]]) -> bool:
        try:
            self._file.add(waiting, int(self._clock() // DAY_S) - self._days + 1)
        except (sqlite3.Error, OSError) as error:
            if time.monotonic() - self._said_at >= SAY_EVERY_S:
                self._said_at = time.monotonic()
                log.error("usage is not written, and kept in memory: %s. Calls are answered all the same", error)
            return False
        return True

    def _put_back(self, waiting: dict[Place, list[int]]) -> None:
        """Begin with the counts that were not written; those of calls since then are added to them."""
        since, self._waiting = self._waiting, waiting
        for place, counts in since.items():
            kept = self._counts_at(place)
            for at, count in enumerate(counts):
                kept[at] += count

    def _counts_at(self, place: Place) -> list[int]:
        """The counts of this place; those of OTHERS if there is no room for one more."""
        if place not in self._waiting and len(self._waiting) >= self._most_waiting:
            place = (place[0], OTHERS, OTHERS)
        return self._waiting.setdefault(place, [0, 0, 0, 0])
