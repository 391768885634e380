"""The request log: records of calls, written in batches by a thread, one SQLite file a day.

A record that cannot be written, or waits when too many bytes wait already, is dropped and counted. No call waits for
the log, and none fails because of it. The last half second before a crash may be lost.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from llmos.abi.call_record import PREFIX, TIME_DIGITS, CallRecord, RequestFilter, day_of, day_of_call
from llmos.abi.error import NotFound
from llmos.kernel.requests import day_file
from llmos.kernel.requests.call_row import AT, ID, CallRow, size_of
from llmos.kernel.requests.day_writer import DayWriter

FOLDER = "requests"  # of the home
MOST_WAITING_BYTES = 8 << 20
GATHER_S = 0.5  # records are gathered for this time, then written in one transaction
SAY_EVERY_S = 60.0  # a failure that goes on is said once in this time
DAY_S = 86_400.0
log = logging.getLogger(__name__)

Work = Callable[[], None]


class RequestLog:
    """Writes records, and finds and erases them. `days` is how many days' files are kept, today's among them."""

    def __init__(
        self,
        folder: Path,
        days: int,
        *,
        most_waiting_bytes: int = MOST_WAITING_BYTES,
        gather_s: float = GATHER_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.written_count = 0
        self.lost_count = 0
        self._days = days
        self._most_waiting_bytes = most_waiting_bytes
        self._gather_s = gather_s
        self._clock = clock
        self._queue: SimpleQueue[tuple[CallRow, int] | Work | None] = SimpleQueue()
        self._added_bytes = 0  # by the loop alone
        self._taken_bytes = 0  # by the thread alone
        self._writer = DayWriter(folder)  # the thread's
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()  # somebody waits for what is queued
        self._said_at = -SAY_EVERY_S
        self._kept_day = ""  # the day on which old files were last removed

    @property
    def waiting_bytes(self) -> int:
        """The bytes of records that are not written yet."""
        return self._added_bytes - self._taken_bytes

    def add(self, row: CallRow) -> None:
        """Queue a call's row, or drop it if too many bytes wait. Never waits."""
        size_bytes = size_of(row)
        if self._added_bytes - self._taken_bytes + size_bytes > self._most_waiting_bytes:
            self.lost_count += 1
            return
        self._added_bytes += size_bytes
        self._queue.put((row, size_bytes))
        if self._thread is None:
            self._start()

    async def find(self, wanted: RequestFilter) -> list[CallRecord]:
        """The newest records that are wanted, without their texts."""
        await self._after_queued(lambda: None)
        return await asyncio.to_thread(self._find, wanted)

    async def get(self, call_id: str) -> CallRecord | None:
        """The record of this call, with its texts where they were kept."""
        day = day_of_call(call_id)
        if day is None:
            raise NotFound(f"{call_id[:80]!r} is no id of a call. It is in the header x-request-id of the answer")
        await self._after_queued(lambda: None)
        path = day_file.path_of(self.folder, day)
        return await asyncio.to_thread(day_file.get, path, call_id) if path.exists() else None

    async def erase(self, user: str) -> int:
        """Delete every record of this user; returns how many."""
        gone: int = await self._after_queued(lambda: self._erase(user))
        return gone

    async def sweep(self) -> None:
        """Remove the files of days that are over."""
        await self._after_queued(self._sweep)

    def close(self) -> None:
        """Write what is queued, and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._hurry.set()
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    async def _after_queued(self, work: Callable[[], Any]) -> Any:  # Any: what the work returns
        """The work's result, done by the thread after everything that is queued now."""
        if self._thread is None:
            return await asyncio.to_thread(work)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def tell(result: Any, error: BaseException | None) -> None:
            if not done.done():
                done.set_result(result) if error is None else done.set_exception(error)

        def run() -> None:
            try:
                result, error = work(), None
            except Exception as failure:  # noqa: BLE001  # it is raised where it is awaited
                result, error = None, failure
            loop.call_soon_threadsafe(tell, result, error)

        self._queue.put(run)
        self._hurry.set()
        return await done

    # The thread.

    def _run(self) -> None:
        is_open = True
        while is_open:
            taken = [self._queue.get()]
            self._hurry.wait(self._gather_s)
            self._hurry.clear()
            while not self._queue.empty():
                taken.append(self._queue.get())
            is_open = None not in taken
            try:
                self._handle([one for one in taken if one is not None])
            except Exception:  # the top of a thread: the next records may be written
                log.exception("the request log")
        self._writer.close()

    def _handle(self, taken: Sequence[tuple[CallRow, int] | Work]) -> None:
        for is_work, group in groupby(taken, key=callable):
            if is_work:
                for work in group:
                    work()  # type: ignore[operator]  # callable, as the key says
            else:
                self._write(list(group))  # type: ignore[arg-type]  # not callable: rows

    def _write(self, rows: Sequence[tuple[CallRow, int]]) -> None:
        try:
            for day, group in groupby((row for row, _ in rows), key=_DayOf()):
                self._keep_days(day)
                self._write_day(day, list(group))
        finally:
            self._taken_bytes += sum(size_bytes for _, size_bytes in rows)

    def _write_day(self, day: str, rows: list[CallRow]) -> None:
        try:
            self._writer.write(day, rows)
            self.written_count += len(rows)
        except (sqlite3.Error, OSError) as error:
            self.lost_count += len(rows)
            if time.monotonic() - self._said_at >= SAY_EVERY_S:
                self._said_at = time.monotonic()
                log.error(
                    "the request log lost %d records (%d since the start): %s. Calls are answered all the same",
                    len(rows),
                    self.lost_count,
                    error,
                )

    def _sweep(self) -> None:
        self._writer.close()  # a file that is open keeps its place on the disk
        self._keep_days(day_of(self._clock()))

    def _keep_days(self, today: str) -> None:
        """Unlink the files of days before those that are kept."""
        if today == self._kept_day:
            return
        self._kept_day = today
        first = day_of(self._clock() - (self._days - 1) * DAY_S)
        for day in day_file.days_in(self.folder):
            if day < first:
                day_file.unlink(day_file.path_of(self.folder, day))

    def _find(self, wanted: RequestFilter) -> list[CallRecord]:
        found: list[CallRecord] = []
        for day in day_file.days_in(self.folder):
            if len(found) < wanted.limit and wanted.day in ("", day):
                found += day_file.find(day_file.path_of(self.folder, day), wanted, wanted.limit - len(found))
        return found

    def _erase(self, user: str) -> int:
        return sum(day_file.erase(day_file.path_of(self.folder, day), user) for day in day_file.days_in(self.folder))


class _DayOf:
    """The day by which its id finds a row: a call that came before midnight may have begun after it."""

    def __init__(self) -> None:
        self._time, self._day = "-", ""  # the part of an id that has its time: ids of one second have the same

    def __call__(self, row: CallRow) -> str:
        if row[ID].startswith(self._time):
            return self._day
        day = day_of_call(row[ID])
        if day is None:
            return day_of(row[AT])
        self._time, self._day = row[ID][: len(PREFIX) + TIME_DIGITS], day
        return day
