"""The single writer: one event at a time is checked, journalled, applied, and its effects are handed on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from llmos.abi.error import Internal, LlmosError, Unavailable
from llmos.kernel.effects import Effect
from llmos.kernel.events import Durability, Event
from llmos.kernel.journal import COMPACT_EVERY, Journal
from llmos.kernel.processes.process_runtime import ALIVE
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.processes.scheduler import View, schedule

LOOK_EVERY_S = 1.0
log = logging.getLogger(__name__)

Waiter = asyncio.Future[None]


class Loop:
    """The single writer of the table: others post events.

    `perform` must return at once, `applied` gets every event, and `view` returns the state to decide from.
    """

    def __init__(
        self,
        table: ProcessTable,
        journal: Journal,
        *,
        perform: Callable[[Effect], None],
        applied: Callable[[Event], None],
        view: Callable[[], View],
        schedule_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._table = table
        self._journal = journal
        self._perform = perform
        self._applied = applied
        self._view = view
        self._schedule_every_s = schedule_every_s
        self._is_behind = False  # the journal lacks an applied event: the next write must be a snapshot
        self._is_over = False
        self._inbox: asyncio.Queue[tuple[Event | None, Waiter | None]] = asyncio.Queue()

    def post(self, event: Event) -> None:
        """Queue an event."""
        self._inbox.put_nowait((event, None))

    def schedule_soon(self) -> None:
        """Schedule again soon, although there is no event for it."""
        self._inbox.put_nowait((None, None))

    async def ask(self, event: Event) -> None:
        """Post an event and wait until it is applied; raises if it could not be."""
        if self._is_over:  # the loop has ended
            raise Unavailable("The daemon is going down")
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait((event, waiter))
        await waiter

    async def compact(self) -> None:
        """Write the journal's snapshot now, with all that was acknowledged before; raises if it could not be."""
        if self._is_over:
            raise Unavailable("The daemon is going down")
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait((None, waiter))
        await waiter

    async def run(self) -> None:
        """Run until cancelled."""
        clock = asyncio.get_running_loop().time
        look_at = clock() + self._schedule_every_s
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(look_at):
                        event, waiter = await self._inbox.get()
                    if event is not None:
                        await self._take(event, waiter)
                    elif waiter is not None:
                        await self._compact(waiter)
                    if event is not None and event.is_quiet and clock() < look_at:
                        continue
                if clock() >= look_at:
                    self._audit()
                    look_at = clock() + self._schedule_every_s
                await self._schedule()
        finally:
            self._is_over = True
            while not self._inbox.empty():
                _, waiter = self._inbox.get_nowait()
                _refuse(waiter, Unavailable("The daemon is going down"))

    async def _take(self, event: Event, waiter: Waiter | None) -> None:
        try:
            self._table.check(event)
            event = self._table.with_final_usage(event)
            await self._write(event, is_asked=waiter is not None)
            effects = self._table.apply(event)
        except LlmosError as error:
            _refuse(waiter, error)
            return
        except Exception as error:  # the top of the loop: our own fault must not stop the daemon
            log.exception("event %s could not be applied", event)
            _refuse(waiter, Internal(f"{type(error).__name__}: {error}"))
            return
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        self._applied(event)
        for effect in effects:
            self._perform(effect)

    async def _write(self, event: Event, *, is_asked: bool) -> None:
        """Journal, then apply.

        If the write fails, requests are refused; facts are applied, and a later snapshot includes them.
        """
        if event.durability is Durability.NONE:
            return
        try:
            if event.durability is Durability.FSYNCED:
                await asyncio.to_thread(self._append, event)
            else:
                self._append(event)
        except LlmosError as error:
            if is_asked and not event.is_fact:
                raise
            self._is_behind = True
            log.error("not in the journal: %s (%s)", event, error.message)  # the message says everything

    def _append(self, event: Event) -> None:
        """Append an event; after a failed write, a snapshot of the state is written first."""
        if self._is_behind:
            self._journal.compact(self._table.snapshot())
            self._is_behind = False
        self._journal.append(event)

    async def _schedule(self) -> None:
        """Decide, and apply the decisions at once.

        No decision is FSYNCED, so there is no await in between: what was idle when it was chosen is still idle.
        """
        for event in schedule(self._view()):
            assert event.durability is not Durability.FSYNCED
            await self._take(event, None)
        if self._journal.appended >= COMPACT_EVERY:
            await self._compact()

    async def _compact(self, waiter: Waiter | None = None) -> None:
        try:
            await asyncio.to_thread(self._journal.compact, self._table.snapshot())
            self._is_behind = False
        except LlmosError as error:
            log.error("the journal stays long: %s", error.message)  # the message says everything
            _refuse(waiter, error)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _audit(self) -> None:
        try:
            self._table.ledger.audit(pid for pid, process in self._table.processes.items() if process.state in ALIVE)
        except LlmosError as error:
            log.error("%s", error.message)  # the message has the numbers


def replay(journal: Journal, table: ProcessTable) -> None:
    """Bring a table from the journal's snapshot to its end."""
    for event in journal.events():
        try:
            table.apply(event)
        except Exception:  # as in `run`: an event that cannot be applied is logged and skipped
            log.exception("journalled event %s could not be applied", event)


def _refuse(waiter: Waiter | None, error: LlmosError) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_exception(error)
