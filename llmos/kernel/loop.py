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
    """Everybody posts; it alone changes the table.

    `perform` must return at once, `applied` hears every event, `view` is what there is to decide from just now.
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
        self._is_behind = False  # the journal lacks something that came true: only a snapshot can follow
        self._is_over = False
        self._inbox: asyncio.Queue[tuple[Event | None, Waiter | None]] = asyncio.Queue()

    def post(self, event: Event) -> None:
        """Something has happened; the loop will get to it."""
        self._inbox.put_nowait((event, None))

    def schedule_soon(self) -> None:
        """Something may be decided now that could not before, though no event says so."""
        self._inbox.put_nowait((None, None))

    async def ask(self, event: Event) -> None:
        """Post, and wait until it is applied; raises if it could not be."""
        if self._is_over:  # nobody would take it any more
            raise Unavailable("The daemon is going down")
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait((event, waiter))
        await waiter

    async def run(self) -> None:
        """Until cancelled."""
        clock = asyncio.get_running_loop().time
        look_at = clock() + self._schedule_every_s
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(look_at):
                        event, waiter = await self._inbox.get()
                    if event is not None:
                        await self._take(event, waiter)
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
        except Exception as error:  # the top of the loop: our own mistake must not stop the box
            log.exception("event %s could not be applied", event)
            _refuse(waiter, Internal(f"{type(error).__name__}: {error}"))
            return
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        self._applied(event)
        for effect in effects:
            self._perform(effect)

    async def _write(self, event: Event, *, is_asked: bool) -> None:
        """First the paper, then the act. A fact that cannot be written is a fact all the same; a wish is refused."""
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
            log.error("not in the journal: %s (%s)", event, error.message)  # the sentence says it all

    def _append(self, event: Event) -> None:
        """After what could not be written comes the state that it led to, and only then the next event."""
        if self._is_behind:
            self._journal.compact(self._table.snapshot())
            self._is_behind = False
        self._journal.append(event)

    async def _schedule(self) -> None:
        """Decide, and act on it. Nothing else happens in between: no decided event is kept so well that it is waited
        for, so what was idle when it was chosen to go is idle when it goes."""
        for event in schedule(self._view()):
            assert event.durability is not Durability.FSYNCED
            await self._take(event, None)
        if self._journal.appended >= COMPACT_EVERY:
            await self._compact()

    async def _compact(self) -> None:
        try:
            await asyncio.to_thread(self._journal.compact, self._table.snapshot())
        except LlmosError as error:
            log.error("the journal stays long: %s", error.message)  # the sentence says it all

    def _audit(self) -> None:
        try:
            self._table.ledger.audit(pid for pid, process in self._table.processes.items() if process.state in ALIVE)
        except LlmosError as error:
            log.error("%s", error.message)  # the sentence has the numbers


def replay(journal: Journal, table: ProcessTable) -> None:
    """Bring a table from the journal's snapshot to its end."""
    for event in journal.events():
        try:
            table.apply(event)
        except Exception:  # as when it happened: an event that could not be applied is logged and passed over
            log.exception("journalled event %s could not be applied", event)


def _refuse(waiter: Waiter | None, error: LlmosError) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_exception(error)
