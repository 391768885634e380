"""An exchange: one request and its answer, in ASGI 3.0 and as HTTP/1.1 bytes, cancelled when the client disconnects."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from types import TracebackType

from starlette.types import ASGIApp, Message, Receive, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

UNSAFE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # characters that may not be in a header (RFC 9110, 5.5)
WITHOUT_BODY = (204, 304)
Headers = Sequence[tuple[bytes, bytes]]
log = logging.getLogger(__name__)


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


class Exchange:
    """One request with its response. The connection feeds the body and reports a disconnect; the app receives and
    sends.

    Headers and the first part of the body leave together, in one system call.
    """

    __slots__ = (
        "_default_headers",
        "_expects_continue",
        "_flow",
        "_head",
        "_is_chunked",
        "_leaving",
        "_left_bytes",
        "_on_response",
        "_scope",
        "_transport",
        "body",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(
        self,
        scope: Scope,
        transport: asyncio.Transport,
        flow: FlowControl,
        default_headers: Headers,
        on_response: Callable[[], None],
        *,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self._scope = scope
        self._transport = transport
        self._flow = flow
        self._default_headers = default_headers
        self._on_response = on_response
        self._expects_continue = expects_continue
        self._leaving = scope["leaving"] = Leaving()
        self._head = b""  # the response's head, until it is sent
        self._is_chunked = False
        self._left_bytes = 0  # remaining bytes of a response of known length
        self.keep_alive = keep_alive
        self.message_event = asyncio.Event()  # set when there is something to receive
        self.body = bytearray()  # received and not yet read by the app
        self.more_body = True
        self.disconnected = False
        self.response_started = False  # a part of it was sent
        self.response_complete = False

    async def run(self, app: ASGIApp) -> None:
        """Run the app. Its errors are logged; without a response so far the status is 500, else the connection ends."""
        try:
            await app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:  # the daemon stops and waits no longer
            await self._break_off()
        except Exception:  # the top of a request: an error while the response was sent
            log.exception("%s %s failed", self._scope["method"], self._scope["path"])
            await self._break_off()
        else:
            if not self.response_complete and not self.disconnected:
                log.error("%s %s was not answered to its end", self._scope["method"], self._scope["path"])
                await self._break_off()

    def leave(self) -> None:
        """Report that the client has left or is not answered any more."""
        self.disconnected = True
        self.message_event.set()
        self._leaving.tell()

    async def receive(self) -> Message:
        if self._expects_continue and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects_continue = False
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        if not self.disconnected and self._transport.is_closing():
            self.leave()  # a write failed; asyncio would warn about each further one
            await asyncio.sleep(0)  # lets tasks that wait for the disconnect end here
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message["headers"])
        else:
            self._go_on(message["body"], is_last=not message.get("more_body", False))

    def _start(self, status: int, headers: Headers) -> None:
        assert not self.response_started, "an answer has one head"
        self._is_chunked = self._scope["method"] != "HEAD" and status not in WITHOUT_BODY
        self._left_bytes = 0
        for name, value in headers:
            if name == b"content-length":
                self._is_chunked, self._left_bytes = False, int(value)
        if UNSAFE.search(b"".join([part for pair in headers for part in pair])):
            raise ValueError(f"A header of this answer has a character that none may have: {headers!r}")
        lines = [b"%b: %b\r\n" % pair for pair in (*self._default_headers, *headers)]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        self._expects_continue = False
        self._head = STATUS_LINE[status] + b"".join(lines) + b"\r\n"
        if self._is_chunked:  # its first piece may take long
            self._write(b"")

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        assert self._head or self.response_started, "a body comes behind its head"
        assert not self.response_complete, "an answer ends once"
        if self._scope["method"] == "HEAD":
            body = b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if is_last else b"")
        else:
            self._left_bytes -= len(body)
            is_as_long = self._left_bytes == 0 or (self._left_bytes > 0 and not is_last)
            assert is_as_long, "a body is as long as its head says"
        self._write(body)
        if is_last:
            self._complete()

    def _write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self.response_started = True
        if head or data:
            self._transport.write(head + data if head else data)

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self._transport.close()
        self._on_response()

    async def _break_off(self) -> None:
        """End a failed response: status 500 if nothing was sent yet, else close the connection."""
        if self.response_started or self.disconnected:
            self._transport.close()
            return
        body = b"Internal Server Error"
        head = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        self.keep_alive = False
        await self.send({"type": "http.response.start", "status": 500, "headers": head})
        await self.send({"type": "http.response.body", "body": body})
