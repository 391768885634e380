"""An exchange: a head leaves with its body, a stream's first, and an app that goes wrong ends what it began."""

import asyncio

import pytest
from starlette.responses import Response
from uvicorn.protocols.http.flow_control import FlowControl

from llmos.api.exchange import Attended, Exchange
from llmos.api.stream import ServerSentEvents


class Wire:
    """A transport that keeps what it was given to write."""

    def __init__(self):
        self.writes = []
        self.is_closed = False

    def write(self, data):
        assert not self.is_closed
        self.writes.append(data)

    def close(self):
        self.is_closed = True

    def is_closing(self):
        return self.is_closed


class Exchanged:
    """One request that an app answered, and what went over the wire."""

    def __init__(self, app, method="GET", *, keep_alive=True, act=None):
        self.wire, self.responses = Wire(), 0
        asyncio.run(self._run(app, method, keep_alive, act))

    async def _run(self, app, method, keep_alive, act):
        scope = {"type": "http", "method": method, "path": "/", "headers": []}
        default = [(b"server", b"s")]
        flow = FlowControl(self.wire)
        self.exchange = Exchange(
            scope, self.wire, flow, default, self._responded, keep_alive=keep_alive, expects_continue=False
        )
        running = asyncio.ensure_future(self.exchange.run(app))
        if act is not None:
            await act(self.exchange, self.wire)
        await running

    def _responded(self):
        self.responses += 1


def test_a_head_and_its_body_leave_in_one_piece():
    done = Exchanged(Response(b"body", headers={"X-One": "1"}))
    head = b"HTTP/1.1 200 OK\r\nserver: s\r\nx-one: 1\r\ncontent-length: 4\r\n\r\n"
    assert done.wire.writes == [head + b"body"]
    assert (done.responses, done.exchange.response_complete, done.wire.is_closed) == (1, True, False)


def test_a_head_without_a_body_leaves_by_itself():
    length = b"HTTP/1.1 200 OK\r\nserver: s\r\ncontent-length: 4\r\n\r\n"
    assert Exchanged(Response(b"body"), "HEAD").wire.writes == [length]
    assert Exchanged(Response(status_code=204)).wire.writes == [b"HTTP/1.1 204 No Content\r\nserver: s\r\n\r\n"]


def test_pieces_of_a_stream_leave_one_by_one():
    async def events():
        yield b"first"
        yield b"second"

    writes = Exchanged(ServerSentEvents(events())).wire.writes
    assert b"transfer-encoding: chunked" in writes[0]
    assert writes[1:] == [b"5\r\nfirst\r\n", b"6\r\nsecond\r\n", b"0\r\n\r\n"]


def test_the_last_answer_of_a_connection_says_so_and_closes_it():
    done = Exchanged(Response(b"body"), keep_alive=False)
    assert b"connection: close\r\n" in done.wire.writes[0]
    assert done.wire.is_closed


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\rb", "a\nb", "a\0b"])
def test_no_value_of_a_header_begins_another(value, caplog):
    (answer,) = Exchanged(Response(b"body", headers={"X-One": value})).wire.writes
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"Set-Cookie" not in answer
    assert "has a character that none may have" in caplog.text


async def fails_at_once(scope, receive, send):
    raise OSError("no")


async def fails_behind_the_head(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    raise OSError("no")


async def ends_too_early(scope, receive, send):
    pass


async def says_too_much(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"five!"})


@pytest.mark.parametrize("app", [fails_at_once, fails_behind_the_head, ends_too_early, says_too_much])
def test_an_app_that_goes_wrong_before_anything_has_left_is_a_500_and_is_logged(app, caplog):
    done = Exchanged(app)
    (answer,) = done.wire.writes
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert (done.wire.is_closed, len(caplog.records)) == (True, 1)


def test_an_app_that_goes_wrong_in_the_middle_ends_the_connection(caplog):
    async def events():
        yield b"first"
        raise OSError("no")

    done = Exchanged(ServerSentEvents(events()))
    assert done.wire.writes[-1] == b"5\r\nfirst\r\n"
    assert (done.wire.is_closed, done.exchange.response_complete, len(caplog.records)) == (True, False, 1)


def test_work_for_a_client_that_leaves_ends_at_once_without_a_log_line(caplog):
    heard = []

    async def app(scope, receive, send):
        with Attended(scope, receive) as attended:
            await asyncio.Event().wait()
        heard.append(attended.is_left)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def leave(exchange, wire):
        await asyncio.sleep(0)
        exchange.leave()

    done = Exchanged(app, act=leave)
    assert (heard, done.wire.writes, caplog.records) == ([True], [], [])


def test_who_begins_to_work_for_a_client_that_has_left_ends_too():
    heard = []

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        with Attended(scope, receive) as attended:
            await asyncio.Event().wait()
        heard.append(attended.is_left)

    async def leave(exchange, wire):
        exchange.leave()

    Exchanged(app, act=leave)
    assert heard == [True]


def test_a_stream_whose_client_s_connection_closed_unheard_ends_with_its_next_piece(caplog):
    is_ended, has_begun = [], asyncio.Event()

    async def events():
        try:
            for _ in range(100):
                yield b"more"
                has_begun.set()
                await asyncio.sleep(0)
        finally:
            is_ended.append(True)

    async def close(exchange, wire):
        await has_begun.wait()
        wire.is_closed = True

    done = Exchanged(ServerSentEvents(events()), act=close)
    assert len(done.wire.writes) < 100
    assert (is_ended, caplog.records) == ([True], [])


def test_an_answer_that_the_daemon_s_end_interrupts_is_a_500_or_ends_the_connection(caplog):
    async def waits(scope, receive, send):
        await asyncio.Event().wait()

    async def end(exchange, wire):
        await asyncio.sleep(0)
        (running,) = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        running.cancel()

    (answer,) = Exchanged(waits, act=end).wire.writes
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert caplog.records == []
