"""Alerts in memory: the service as the kernel has it, with a book that no journal keeps, and what it has done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from llmos.abi.alert import AlertDelivery
from llmos.abi.error import LlmosError
from llmos.abi.json_type import Json
from llmos.kernel.alerts.alert_book import AlertBook
from llmos.kernel.alerts.alert_service import AlertService
from llmos.kernel.alerts.channel_settings import ChannelSettings
from llmos.kernel.alerts.channels import SendFailure
from llmos.kernel.event import Event
from llmos.kernel.event_stream import EventStream


class MemoryBook:
    """Applies events as the process table does, and keeps them."""

    def __init__(self, book: AlertBook | None = None) -> None:
        self.book = book or AlertBook()
        self.events: list[Event] = []

    async def ask(self, event: Event) -> None:
        self.book.check(event)
        self.events.append(event)
        self.book = self.book.after(event)


class MemoryActions:
    """Records actions. `promoted_versions` are those of names; `failure` is raised by the next action."""

    def __init__(self) -> None:
        self.acted: list[dict[str, Json]] = []
        self.promoted_versions: dict[str, int] = {}
        self.failure: LlmosError | None = None

    def promoted_version(self, name: str) -> int | None:
        return self.promoted_versions.get(name)

    async def act(self, action: dict[str, Json]) -> None:
        if self.failure is not None:
            raise self.failure
        self.acted.append(action)


class MemorySender:
    """Keeps what is sent; while `failure` is set, nothing arrives."""

    def __init__(self) -> None:
        self.sent: list[AlertDelivery] = []
        self.failure: SendFailure | None = None
        self.came = threading.Event()

    def __call__(self, settings: ChannelSettings, delivery: AlertDelivery, now: float) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append(delivery)
        self.came.set()


def memory_alerts(
    home: Path,
    clock: Callable[[], float],
    *,
    book: MemoryBook | None = None,
    actions: MemoryActions | None = None,
    sender: MemorySender | None = None,
) -> AlertService:
    """The service over these; one clock is wall time and monotonic at once."""
    kept = book or MemoryBook()
    return AlertService(
        home,
        lambda: kept.book,
        kept.ask,
        actions or MemoryActions(),
        EventStream(clock),
        clock,
        clock,
        sender=sender or MemorySender(),
    )
