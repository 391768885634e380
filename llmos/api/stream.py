"""Streams to a client: server-sent events, and cancellation when the client disconnects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType

import msgspec
from starlette.types import Receive, Scope, Send

from llmos.abi.error import LlmosError
from llmos.api.errors import shape_of

log = logging.getLogger(__name__)
EVENTS = "text/event-stream"
DONE = "[DONE]"  # the data of the last event in OpenAI's streams
HEADERS = [
    (b"content-type", f"{EVENTS}; charset=utf-8".encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Leaving:
    """A client's disconnect and its listeners. A connection that can report it puts one into the scope."""

    __slots__ = ("hears", "is_over")

    def __init__(self) -> None:
        self.is_over = False  # the client has left
        self.hears: Callable[[], None] | None = None

    def tell(self) -> None:
        """Report that the client has left."""
        self.is_over = True
        if self.hears is not None:
            self.hears()


class Attended:
    """Watches the client while the block runs; if it leaves, the block is cancelled and `is_left` is set.

    If the connection does not report a disconnect, it is received as a message: the request's body has been read, so no
    other message can come.
    """

    __slots__ = ("_leaving", "_receive", "_task", "_watch", "is_left")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._leaving: Leaving | None = scope.get("leaving")
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self.is_left = False

    def __enter__(self) -> Attended:
        self._task = asyncio.current_task()
        if self._leaving is None:
            self._watch = asyncio.ensure_future(self._wait())
        elif self._leaving.is_over:
            self._client_left()
        else:
            self._leaving.hears = self._client_left
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._leaving is not None:
            self._leaving.hears = None
        if self._watch is not None:
            self._watch.cancel()
        if not self.is_left or self._task is None:
            return False
        remaining = self._task.uncancel()
        return isinstance(error, asyncio.CancelledError) and remaining == 0

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_left()

    def _client_left(self) -> None:
        self.is_left = True
        if self._task is not None:
            self._task.cancel()


class ServerSentEvents:
    """A response of server-sent events, sent as they are made; the source is closed when the client leaves."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events
        self.raw_headers = list(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events) as events:
            with Attended(scope, receive) as attended:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        if not attended.is_left:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def event(data: object, *, name: str | None = None, sequence: int | None = None) -> bytes:
    """One server-sent event with JSON data."""
    head = b"" if name is None else b"event: %s\n" % name.encode()
    if sequence is not None:
        head += b"id: %d\n" % sequence
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


def fault(error: Exception, *, name: str | None = None) -> bytes:
    """The error event of a stream whose status was sent already; unexpected errors are logged too."""
    if not isinstance(error, LlmosError):
        log.error("a stream failed", exc_info=error)
    return event(shape_of(error), name=name)
