"""Streams to a client: server-sent events, and JSON lines."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.types import Receive, Scope, Send

from llmos.abi.error import LlmosError
from llmos.api.errors import OURS, ErrorShape
from llmos.api.exchange import Attended

log = logging.getLogger(__name__)
EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
DONE = "[DONE]"  # the data of the last event in OpenAI's streams
HEADERS = [
    (b"content-type", f"{EVENTS}; charset=utf-8".encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


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


class JsonLines(ServerSentEvents):
    """A response of JSON values, each on a line of its own; otherwise as server-sent events."""

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__(lines)
        self.raw_headers = [(b"content-type", LINES.encode()), *HEADERS[1:]]


def line(data: object) -> bytes:
    """One JSON value on its line."""
    return msgspec.json.encode(data) + b"\n"


def event(data: object, *, name: str | None = None, sequence: int | None = None) -> bytes:
    """One server-sent event with JSON data."""
    head = b"" if name is None else b"event: %s\n" % name.encode()
    if sequence is not None:
        head += b"id: %d\n" % sequence
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


def fault(error: Exception, *, name: str | None = None, shape: ErrorShape = OURS) -> bytes:
    """The error event of a stream whose status was sent already; unexpected errors are logged too."""
    return event(fault_body(error, shape), name=name)


def fault_body(error: Exception, shape: ErrorShape = OURS) -> object:
    """What a stream whose status was sent already says of an error; unexpected errors are logged too."""
    if not isinstance(error, LlmosError):
        log.error("a stream failed", exc_info=error)
    return shape.of(error)
