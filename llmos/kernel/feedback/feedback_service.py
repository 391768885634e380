"""Feedback for the API: a thread writes rows, many in one transaction; they are durable when acknowledged."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from llmos.abi import feedback_file
from llmos.abi.call_record import CallRecord
from llmos.abi.error import FeedbackLost, NotFound
from llmos.abi.feedback import FeedbackCounts, FeedbackRow
from llmos.abi.json_type import Json
from llmos.abi.row_id import RowHmac, fold_text
from llmos.kernel.requests.request_service import RequestService

MOST_AT_ONCE = 1_000  # rows of one transaction
T = TypeVar("T")
Waiting = tuple[FeedbackRow, "asyncio.Future[FeedbackRow]"]


class FeedbackService:
    """Takes feedback in. `arrived` is told the name of a model for which a row was written."""

    def __init__(
        self, home: Path, requests: RequestService, row_key: Callable[[], str], arrived: Callable[[str], None]
    ) -> None:
        self.path = home / feedback_file.FILE
        self._requests = requests
        self._row_key = row_key
        self._hmac: RowHmac | None = None
        self._arrived = arrived
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, call_id: str) -> CallRecord:
        """A call with its text: from memory, else from the request log; NotFound if neither has it."""
        found = self._requests.recent.get(call_id) or await self._requests.log.get(call_id)
        if found is None or found.inputs is None:
            raise no_call(call_id)
        return found

    def answer_to(self, ref: str, given: Json) -> CallRecord | None:
        """The latest call in memory with this one input to a version of this name."""
        return self._requests.recent.latest(ref.partition(":")[0], given)

    def text_id(self, text: str) -> str:
        """The id of rows with this text, as datasets have it."""
        if self._hmac is None:
            self._hmac = RowHmac(bytes.fromhex(self._row_key()))
        return self._hmac.id_of(fold_text(text))

    async def add(self, row: FeedbackRow) -> FeedbackRow:
        """Write a row; it is durable when this returns. FeedbackLost if it cannot be written."""
        done: asyncio.Future[FeedbackRow] = asyncio.get_running_loop().create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
            self._thread.start()
        self._queue.put((row, done))
        added = await done
        self._arrived(row.model)
        return added

    async def find(self, model: str, user: str, limit: int) -> list[FeedbackRow]:
        """The newest rows of a model and of a user, where they are named."""
        return await asyncio.to_thread(self._read, lambda it: feedback_file.newest(it, model, user, limit), [])

    async def counts(self, model: str, after: int = 0) -> FeedbackCounts:
        """The counts of a model's rows after this id."""
        none = FeedbackCounts(model)
        return await asyncio.to_thread(self._read, lambda it: feedback_file.counts_of(it, model, after=after), none)

    async def erase(self, user: str) -> int:
        """Delete the rows that a user gave, and those on a user's calls; returns how many."""
        return await asyncio.to_thread(self._read, lambda it: feedback_file.erase_user(it, user), 0)

    def close(self) -> None:
        """End the thread once it has written what waits."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _read(self, work: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        if not self.path.exists():
            return nothing
        with feedback_file.open_feedback(self.path) as database:
            return work(database)

    # The thread.

    def _run(self) -> None:
        is_open = True
        while is_open:
            taken = [self._queue.get()]
            while not self._queue.empty() and len(taken) < MOST_AT_ONCE:
                taken.append(self._queue.get())
            is_open = None not in taken
            self._write([one for one in taken if one is not None])

    def _write(self, waiting: list[Waiting]) -> None:
        if not waiting:
            return
        try:
            with feedback_file.open_feedback(self.path) as database:
                added = feedback_file.add_rows(database, [row for row, _ in waiting])
        except Exception as error:  # noqa: BLE001  # a row that is not written must not be acknowledged
            lost = FeedbackLost(f"The row could not be written, and is not kept: {error}. Send it again later")
            for _, done in waiting:
                _tell(done, lambda it: it.set_exception(lost))
            return
        for row, (_, done) in zip(added, waiting, strict=True):
            _tell(done, lambda it, row=row: it.set_result(row))  # type: ignore[misc]  # bound now, not later


def no_call(call_id: str) -> NotFound:
    """The error for a call whose text is not here, or not for the request's key."""
    return NotFound(
        f"The text of call {call_id[:80]} is not here: recent_calls_bytes is over, the daemon has started again, or "
        "the call said `store: false`. Send `model` and `input` in place of `call`",
        call=call_id[:80],
        reason="no_text",
    )


def _tell(done: asyncio.Future[Any], say: Callable[[asyncio.Future[Any]], None]) -> None:
    """Say it in the future's own loop, unless nobody waits any more."""
    done.get_loop().call_soon_threadsafe(lambda: None if done.done() else say(done))
