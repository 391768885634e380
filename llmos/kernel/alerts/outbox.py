"""The outbox: sends the messages of the alert book, again after a while where one did not arrive, or gives it up.

A message that has arrived is journalled as ended. After a crash between both it is sent again, under the same id.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

from llmos.abi.alert import AlertDelivery
from llmos.abi.error import LlmosError
from llmos.abi.json_type import Json
from llmos.kernel import events as ev
from llmos.kernel.alerts.alert_book import AlertBook
from llmos.kernel.alerts.channel_settings import ChannelSettings
from llmos.kernel.alerts.channels import SendFailure, send

# seconds until the next attempt: more than a day in all
BACKOFF_S = (5.0, 30.0, 120.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 43_200.0)
AT_ONCE = 8  # messages that are sent at a time; one by a channel
ACTION = ""  # the channel of actions
log = logging.getLogger(__name__)

Send = Callable[[ChannelSettings, AlertDelivery, float], None]


class Actions(Protocol):
    """What a rule may have done."""

    def promoted_version(self, name: str) -> int | None:
        """The promoted version of a name."""
        ...

    async def act(self, action: dict[str, Json]) -> None:
        """Do an action; LlmosError if it cannot be done."""
        ...


class Outbox:
    """Sends what is due, and does what rules ask for."""

    def __init__(
        self,
        book: Callable[[], AlertBook],
        channels: Callable[[], Mapping[str, ChannelSettings]],
        ask: Callable[[ev.Event], Awaitable[None]],
        actions: Actions,
        clock: Callable[[], float],
        *,
        sender: Send = send,
    ) -> None:
        self._book = book
        self._channels = channels
        self._ask = ask
        self._actions = actions
        self._clock = clock
        self._send = sender
        self._at_work: dict[str, asyncio.Task[None]] = {}  # by channel
        self.counts: Counter[tuple[str, str]] = Counter()  # by channel and outcome: sent, failed
        self.errors: dict[str, str] = {}  # of each channel's last attempt

    def send_due(self) -> None:
        """Begin what is due; one message at a time by each channel, so that a slow one delays no other."""
        now = self._clock()
        due = (one for one in self._book().deliveries.values() if one.next_at <= now)
        for delivery in sorted(due, key=lambda one: (one.next_at, one.created_at)):
            if len(self._at_work) >= AT_ONCE:
                return
            if delivery.channel not in self._at_work:
                task = asyncio.get_running_loop().create_task(self._try(delivery))
                self._at_work[delivery.channel] = task
                task.add_done_callback(partial(self._go_on, delivery.channel))

    async def close(self) -> None:
        """Stop; what is under way is sent again at the next start."""
        tasks = list(self._at_work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def send_now(self, settings: ChannelSettings, delivery: AlertDelivery) -> str:
        """Send once, in a thread; what went wrong, or an empty text."""
        try:
            await in_thread(lambda: self._send(settings, delivery, self._clock()))
        except SendFailure as error:
            return error.message
        return ""

    def _go_on(self, channel: str, task: asyncio.Task[None]) -> None:
        del self._at_work[channel]
        if not task.cancelled():
            if (error := task.exception()) is not None:
                log.error("alerts: %s could not be handled", channel or "an action", exc_info=error)
            else:
                self.send_due()

    async def _try(self, delivery: AlertDelivery) -> None:
        error, is_final = await self._attempt(delivery)
        name = delivery.channel or "action"
        self.errors[name] = error
        self.counts[name, "failed" if error else "sent"] += 1
        if error and not is_final and delivery.attempts < len(BACKOFF_S):
            next_at = self._clock() + BACKOFF_S[delivery.attempts]
            log.warning("alert %s is not told by %s yet: %s", delivery.rule, name, error)
            await self._ask(ev.AlertDeliveryTried(self._clock(), delivery.id, next_at, error))
            return
        if error:
            log.error("alert %s is never told by %s: %s", delivery.rule, name, error)
        await self._ask(ev.AlertDeliveryEnded(self._clock(), delivery.id, error))

    async def _attempt(self, delivery: AlertDelivery) -> tuple[str, bool]:
        """What went wrong, and whether that is for good."""
        if delivery.action:
            try:
                await self._actions.act(delivery.action)
            except LlmosError as error:
                return error.message, True
            return "", True
        settings = self._channels().get(delivery.channel)
        if settings is None:
            return f"there is no channel {delivery.channel} any more", True
        try:
            await in_thread(lambda: self._send(settings, delivery, self._clock()))
        except SendFailure as failure:
            return failure.message, failure.is_final
        return "", False


async def in_thread(work: Callable[[], None]) -> None:
    """Do blocking work in a thread of its own: neither the journal nor the daemon's end ever waits for a receiver."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: Exception | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def run() -> None:
        error: Exception | None = None
        try:
            work()
        except SendFailure as failure:
            error = failure
        except Exception as failure:  # the top of a thread: it becomes a failed attempt
            log.exception("an alert's message")
            error = SendFailure(f"{type(failure).__name__}: {failure}")
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, name="alert", daemon=True).start()
    await done
