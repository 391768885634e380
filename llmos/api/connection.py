"""Connections: uvicorn's, with limits on their number, on memory per client and on the time to send and to read."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import deque
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

import httptools
import msgspec
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from llmos.abi.error import BadInput, HeadTooLarge, LlmosError, TooSlow, Unavailable, fault_of
from llmos.api.errors import body_of, status_of
from llmos.api.exchange import Exchange

MAX_HEAD_BYTES = 32_768  # of a request line with its headers; also of trailers and chunk sizes within a body
MAX_HEADERS = 100
MAX_PIPELINED = 32  # pipelined requests; reading stops after this many
HEAD_S = 30.0  # from a connection's start, or a later request's first byte, to the end of the headers
BODY_S = 15.0  # in each such interval LEAST_BYTES of a body must arrive, or its end
WRITE_S = 60.0  # in each such interval the client must read LEAST_BYTES of waiting data
LEAST_BYTES = 15_360
ASGI = {"version": "3.0", "spec_version": "2.3"}
LINGER_S = 2.0  # how long a refused client may go on sending, so that it reads the refusal and not a reset
READ_BYTES = 65_536  # the most to read from a socket at once
ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")  # RFC 9112, 3.2.2
log = logging.getLogger(__name__)


class Serving(uvicorn.Config):
    """How this app is served: HTTP/1.1, with a limit of connections; over TLS where there is a context for it."""

    def __init__(
        self, app: ASGIApp, max_connections: int, farewell_s: float, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # client addresses are not used
            timeout_graceful_shutdown=farewell_s,  # type: ignore[arg-type]  # whole seconds by its annotation only
        )
        self.crowd: Connections[Connection] = Connections(max_connections)
        self._tls = tls

    def load(self) -> None:
        super().load()
        self.ssl = self._tls


class Connection(HttpToolsProtocol):
    """One client. A client that sends or reads too slowly, or sends too much outside of a body, is refused and closed.

    Memory per connection: a head of at most MAX_HEAD_BYTES, READ_BYTES read ahead of a body, and uvicorn's 64 KiB. The
    number of connections is limited, so the total is bounded. Bodies have a budget of their own (BodyBudget).
    """

    cycle: Exchange  # type: ignore[assignment]  # the newest one; uvicorn knows its own kind

    def __init__(
        self,
        config: Serving,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # Any: uvicorn's types
        super().__init__(config, server_state, app_state, _loop)
        self._crowd = config.crowd
        self._waits_since = self.loop.time()  # since when it has no request in progress
        self._phase = "idle"  # the parser's phase: idle, head or body
        self._timed = ""  # the phase whose deadline is set
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._unread_bytes = 0  # unread bytes when the write deadline was set
        self._is_refused = False  # no more input is accepted
        self._brought = False  # whether the current data ended a head or a message, or had a part of a body
        self._barren_bytes = 0  # bytes read since such data
        self._body_bytes = 0  # since the body's deadline was set
        self._has_too_many = False
        self._is_upgrade = False  # the head asks for another protocol
        self._is_replaying = False  # the head was parsed before
        self._head_bytes = 0
        self._answering: Exchange | None = None
        self._queue: deque[Exchange] = deque()  # pipelined requests

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        self._time("head", HEAD_S)
        self._crowd.came(self)
        if self._crowd.is_too_large:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.leave(self)
        self._time("", None)
        self._unset_keepalive_if_required()
        self.resume_writing()
        self._queue.clear()  # nobody reads their responses
        if self._answering is not None and not self._answering.response_complete:
            self._answering.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            self._brought = False
            self._parse(data)
            self._set_bounds(len(data))

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            log.debug("a request that is none: %s", error)
            self._refuse(BadInput("This is no HTTP/1.1 request"))

    def _go_on(self, rest: bytes) -> None:
        """Answer a request for another protocol in HTTP/1.1 (RFC 9110, 7.8), including its body.

        The parser reads no body for some of these requests. So a second parser, which gets the body's length from the
        head, takes over.
        """
        framing = [pair for pair in self.headers if pair[0] in (b"content-length", b"transfer-encoding")]
        self.parser = httptools.HttpRequestParser(self)
        self._is_replaying, self._is_upgrade = True, False
        self._parse(b"POST / HTTP/1.1\r\n" + b"".join(b"%s: %s\r\n" % pair for pair in framing) + b"\r\n")
        self._is_replaying = False
        if rest and not self._is_refused:
            self._parse(rest)

    def _set_bounds(self, size_bytes: int) -> None:
        if self._is_refused:
            return
        self._barren_bytes = 0 if self._brought else self._barren_bytes + size_bytes
        phase = self._phase if self._brought or self._phase != "idle" else "head"  # empty lines before a head
        if self._barren_bytes > MAX_HEAD_BYTES:
            self._refuse(_too_large())
        elif phase != self._timed:
            self._time(phase, {"head": HEAD_S, "body": BODY_S}.get(phase))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._write_deadline = self.loop.call_later(WRITE_S, self._check_reading)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn's keep-alive timer.

        It is not set for each request: one that fires too early is set again for the remaining time.
        """
        self.timeout_keep_alive_task = None
        if not self.waits or self._timed != "idle":  # in use, or receiving a head that has its own deadline
            return
        left_s = self._waits_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
            return
        self.transport.close()
        self.loop.call_later(WRITE_S, self.transport.abort)  # in case the last response is not read by then

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        if self._is_replaying:
            return
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._phase, self._head_bytes, self._has_too_many = "head", 0, False

    def on_url(self, url: bytes) -> None:
        if not self._is_replaying:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase != "head" or self._is_replaying:
            return  # trailers may be dropped (RFC 9110, 6.5.1)
        self._head_bytes += len(name) + len(value) + 4
        if len(self.headers) < MAX_HEADERS:
            super().on_header(name, value)
        else:
            self._has_too_many = True

    def on_headers_complete(self) -> None:
        if self._is_refused or self._is_replaying:
            return
        self._brought, self._is_upgrade = True, self.parser.should_upgrade()
        if self._has_too_many or len(self.url) + self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_too_large())
        elif len(self._queue) >= MAX_PIPELINED:
            self._end_after_answers()
        else:
            self._read_target()
            self._crowd.works(self)
            self._open()
            self._phase, self._body_bytes = "body", 0

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            self._brought = True
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused and not self._is_upgrade:
            self._brought, self._phase = True, "idle"
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._waits_since = self.loop.time()
        if self.waits:
            self._crowd.waits(self)
        self.flow.resume_reading()
        if self._queue:
            self._begin(self._queue.popleft())
        elif self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadInput(msg))

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn's warning is not needed: the request is answered."""

    # The requests.

    def _open(self) -> None:
        """Start a request whose head is complete, or queue it behind earlier ones."""
        parser, previous = self.parser, self.cycle
        version = parser.get_http_version()
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        scope: Scope = {
            "type": "http",
            "asgi": ASGI,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": target.path,
            "query_string": target.query or b"",
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
        }
        self.cycle = Exchange(
            scope,
            self.transport,
            self.flow,
            self.server_state.default_headers,
            self.on_response_complete,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            expects_continue=self.expect_100_continue,
        )
        if previous is None or previous.response_complete:
            self._begin(self.cycle)
        else:
            self.flow.pause_reading()
            self._queue.append(self.cycle)

    def _begin(self, exchange: Exchange) -> None:
        self._answering = exchange
        task = self.loop.create_task(exchange.run(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    # Decisions.

    @property
    def waits(self) -> bool:
        """Whether it is idle: no request in progress."""
        return (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def _make_room(self) -> None:
        """Close the connection that has been idle longest; if none is idle, refuse this one."""
        longest = self._crowd.longest()
        if longest is None or longest is self:
            self._refuse(Unavailable(f"{self._crowd.most} connections are open and busy. Try again later"))
        else:
            self._crowd.leave(longest)
            longest.transport.abort()

    def _read_target(self) -> None:
        """Take the host from an absolute request target, which overrides the Host header (RFC 9112, 3.2.2)."""
        if self.url.startswith(b"/"):
            return
        absolute = ABSOLUTE.match(self.url)
        if absolute is not None and sum(name == b"host" for name, _ in self.headers) == 1:
            self.headers[:] = [(name, absolute[1] if name == b"host" else value) for name, value in self.headers]
        elif self.url == b"*":
            self.url = b"/*"

    def _time(self, phase: str, seconds: float | None) -> None:
        """Set the deadline of this phase; None removes it."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._timed = phase
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._check_sending, seconds)

    def _check_sending(self, seconds: float) -> None:
        is_fast = self._timed == "body" and self._body_bytes >= LEAST_BYTES
        if is_fast or self.flow.read_paused:  # paused: reading was stopped by us
            self._body_bytes = 0
            self._time(self._timed, seconds)
        elif self._phase == "idle":  # nothing was sent yet, or only empty lines
            if self.waits:
                self.transport.close()
        else:
            what = "The headers" if self._timed == "head" else "The body"
            self._refuse(TooSlow(f"{what} did not arrive in time. Send {LEAST_BYTES // 15 // 1024} KiB/s or more"))

    def _check_reading(self) -> None:
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes > self._unread_bytes - LEAST_BYTES:
            log.info("a client reads its answer too slowly: %s bytes of it are dropped", f"{unread_bytes:,}")
            self.transport.abort()
            return
        self._unread_bytes = unread_bytes
        self._write_deadline = self.loop.call_later(WRITE_S, self._check_reading)

    def _end_after_answers(self) -> None:
        """Stop reading; the connection ends once all requests read so far are answered."""
        self._is_refused = True
        self._time("", None)
        self.cycle.keep_alive = False

    def _refuse(self, error: LlmosError) -> None:
        """Send the client this error if no response is in progress, and close."""
        is_of_a_body = self._phase == "body"
        is_answered = self.cycle is None or self.cycle.response_complete
        if not is_of_a_body and not is_answered:
            return self._end_after_answers()
        self._is_refused = True
        self._time("", None)
        if is_of_a_body and (is_answered or self.cycle.response_started or self.cycle is not self._answering):
            return self.transport.close()
        if is_of_a_body:
            self.cycle.leave()
        self._say(error)
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
        except OSError:  # the client has left already
            return self.transport.abort()
        self.loop.call_later(LINGER_S, self.transport.abort)
        return None

    def _say(self, error: LlmosError) -> None:
        status = status_of(error)
        body = msgspec.json.encode(body_of(fault_of(error), status))
        lines = [
            *(name + b": " + value for name, value in self.server_state.default_headers),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
            b"\r\n",
        ]
        self.transport.write(STATUS_LINE[status] + b"\r\n".join(lines) + body)


def _too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"A request line and its headers may have {MAX_HEAD_BYTES:,} bytes, and {MAX_HEADERS} headers. Send less",
        limit=MAX_HEAD_BYTES,
    )


T = TypeVar("T")


class Connections(Generic[T]):
    """Who is here, of whom at most so many may be.

    Each step costs the same however many there are: who opens thousands of them must not keep the daemon from others.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._here: set[T] = set()
        self._waiting: dict[T, None] = {}  # in the order in which they began to

    @property
    def is_too_large(self) -> bool:
        return len(self._here) > self.most

    def came(self, one: T) -> None:
        """It is here, and waits."""
        self._here.add(one)
        self._waiting[one] = None

    def waits(self, one: T) -> None:
        """From now on it waits for its client, if it is here."""
        if one in self._here:
            self._waiting.pop(one, None)
            self._waiting[one] = None

    def works(self, one: T) -> None:
        """It waits no longer."""
        self._waiting.pop(one, None)

    def leave(self, one: T) -> None:
        """It is here no longer."""
        self._here.discard(one)
        self._waiting.pop(one, None)

    def longest(self) -> T | None:
        """Who has waited longest; None if nobody waits."""
        return next(iter(self._waiting), None)
