"""A connection: what a client may make it hold and how long it may take, at the socket and at its deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
from functools import partial
from pathlib import Path

import pytest

from llmos.api import connection
from llmos.api.app import create_app
from llmos.api.connection import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED, Serving
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

HOST = b"Host: localhost\r\n"
ALIVE = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture
def kernel():
    return MemoryKernel()


@pytest.fixture
def dial(kernel, tmp_path):
    """Opens a connection to a real server around the kernel."""
    opened = []
    with serving(kernel, Config(tmp_path, max_body_bytes=4096, max_held_bytes=6000, max_connections=3)) as url:

        def one():
            sock = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)
            opened.append(sock)
            return sock

        yield one
        for sock in opened:
            sock.close()


def all_of(sock):
    """Everything that comes until the server closes; a reset counts as that."""
    came = b""
    try:
        while piece := sock.recv(1 << 16):
            came += piece
    except ConnectionResetError:
        pass
    return came


def answer_of(sock):
    """One whole answer of a connection that stays."""
    came = b""
    while b"\r\n\r\n" not in came:
        came += sock.recv(1 << 16)
    head, _, body = came.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    while len(body) < length:
        body += sock.recv(1 << 16)
    return int(head.split()[1]), json.loads(body)


def sent(sock, data):
    """Send it all; what a server that has heard enough does not take is not sent."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(data)
    return sock


def code_of(came):
    return int(came.split()[1]), json.loads(came.partition(b"\r\n\r\n")[2])["error"]["code"]


LARGE = {
    "a header that never ends": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 200_000,
    "a target that never ends": b"GET /" + b"x" * 200_000,
    "headers that are large together": b"GET /healthz HTTP/1.1\r\n"
    + HOST
    + b"X: %s\r\n" % (b"x" * 1000) * 40
    + b"\r\n",
    "too many headers": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: x\r\n" * MAX_HEADERS + b"\r\n",
    "empty lines": b"\r\n" * MAX_HEAD_BYTES,
    "a trailer that never ends": b"POST /v1/gc HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: "
    + b"x" * 200_000,
}


@pytest.mark.parametrize("data", [LARGE[name] for name in LARGE if "trailer" not in name], ids=[*LARGE][:-1])
def test_a_head_that_is_too_large_is_refused_and_the_connection_ends(dial, data):
    assert code_of(all_of(sent(dial(), data))) == (431, "head_too_large")
    assert answer_of(sent(dial(), ALIVE))[0] == 200


def test_a_trailer_that_never_ends_ends_the_connection(dial):
    all_of(sent(dial(), LARGE["a trailer that never ends"]))
    assert answer_of(sent(dial(), ALIVE))[0] == 200


def test_as_large_a_head_as_may_be_is_read_in_whatever_pieces_it_comes(dial):
    headers = b"".join(b"X-%d: %s\r\n" % (i, b"x" * 300) for i in range(MAX_HEADERS - 1))
    data = b"GET /healthz HTTP/1.1\r\n" + HOST + headers + b"\r\n"
    assert MAX_HEAD_BYTES - 2500 < len(data) < MAX_HEAD_BYTES
    sock = dial()
    for start in range(0, len(data), 1000):
        sock.sendall(data[start : start + 1000])
    assert answer_of(sock)[0] == 200
    assert answer_of(sent(sock, data))[0] == 200


def test_trailers_change_no_header(dial, kernel):
    body = b"2\r\n{}\r\n0\r\nHost: attacker.example\r\n\r\n"
    sock = sent(dial(), b"POST /v1/gc HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert answer_of(sock)[0] == 200
    assert answer_of(sent(sock, ALIVE))[0] == 200


def test_a_host_in_the_target_counts_and_not_the_header_beside_it(dial):
    foreign = b"GET http://attacker.example/healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    assert answer_of(sent(dial(), foreign))[1]["error"]["code"] == "host_not_allowed"
    own = b"GET http://localhost:1/healthz HTTP/1.1\r\nHost: attacker.example\r\n\r\n"
    assert answer_of(sent(dial(), own))[0] == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"OPTIONS * HTTP/1.1", 404),
        (b"CONNECT localhost:80 HTTP/1.1", 400),
        (b"nonsense", 400),
        (b"GET / HTTP/9.9", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b"PRI * HTTP/2.0", 400),
    ],
)
def test_a_request_that_is_none_is_a_sentence(dial, line, status):
    found, body = answer_of(sent(dial(), line + b"\r\n" + HOST + b"\r\n"))
    assert (found, bool(body["error"]["message"])) == (status, True)


def test_an_upgrade_to_websocket_is_refused_and_one_to_http2_is_answered(dial, caplog):
    upgrade = b"Connection: Upgrade\r\nUpgrade: %s\r\n"
    websocket = b"GET /v1/events HTTP/1.1\r\n" + HOST + upgrade % b"websocket" + b"\r\n"
    status, body = answer_of(sent(dial(), websocket))
    assert (status, "server-sent events" in body["error"]["message"]) == (400, True)
    text = b'{"model": "ner", "input": "Ada"}'
    h2c = b"POST /v1/tasks/tag HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n" % len(text)
    sock = dial()
    for _ in range(2):
        assert answer_of(sent(sock, h2c + upgrade % b"h2c" + b"\r\n" + text))[1]["model"] == "ner:1"
    assert caplog.records == []


def test_requests_that_come_at_once_are_answered_in_turn_and_too_many_are_not_read(dial):
    sock = sent(dial(), ALIVE * 3)
    assert [answer_of_next(sock) for _ in range(3)] == [200] * 3
    came = all_of(sent(dial(), ALIVE * 400))
    assert came.count(b"HTTP/1.1 200 ") == MAX_PIPELINED + 1
    assert came.count(b"connection: close") == 1


def answer_of_next(sock):
    """The status of the next answer, read byte by byte so that what follows stays."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    while left:
        left -= len(sock.recv(left))
    return int(head.split()[1])


def test_one_connection_too_many_takes_the_place_of_the_one_that_waited_longest(dial):
    first, second, third = dial(), dial(), dial()
    for sock in (first, second, third):
        assert answer_of(sent(sock, ALIVE))[0] == 200
    assert answer_of(sent(first, ALIVE))[0] == 200  # so that the second has waited longest
    fourth = dial()
    assert answer_of(sent(fourth, ALIVE))[0] == 200
    assert all_of(second) == b""
    for sock in (first, third, fourth):
        assert answer_of(sent(sock, ALIVE))[0] == 200


def test_where_all_connections_are_at_work_one_more_is_told_to_come_back(dial):
    busy = [dial() for _ in range(3)]
    for sock in busy:
        sent(sock, b"GET /v1/events HTTP/1.1\r\n" + HOST + b"\r\n")
        assert sock.recv(12) == b"HTTP/1.1 200"
    assert code_of(all_of(dial())) == (503, "unavailable")
    busy[0].close()
    status = 503
    while status == 503:  # the server has not heard of the end yet
        status = answer_of(sent(dial(), ALIVE))[0]
    assert status == 200


def test_bodies_under_way_are_bounded_together_and_given_back(dial):
    head = b"POST /v1/tasks/tag HTTP/1.1\r\n" + HOST + b"Content-Length: 4000\r\n\r\n"
    body = b'{"model": "ner", "input": "Ada"}'.ljust(4000)
    first, second = dial(), dial()
    first.sendall(head + body[:3500])
    refused = None
    while refused is None or refused[0] == 200:  # until the server has read the half of the first
        refused = answer_of(sent(second, head + body))
    assert (refused[0], refused[1]["error"]["code"]) == (429, "busy")
    assert "max_held_bytes" in refused[1]["error"]["message"]
    assert answer_of(sent(first, body[3500:]))[0] == 200
    assert answer_of(sent(second, head + body))[0] == 200


@pytest.mark.parametrize("way", ["closes", "resets"])
def test_a_client_that_leaves_at_any_point_is_nothing_to_log(dial, kernel, caplog, way):
    caplog.set_level(logging.WARNING)
    text = b'{"model": "smollm2", "input": "hello", "stream": true}'
    whole = b"POST /v1/tasks/generate HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(text) + text
    cuts = [10, whole.index(b"\r\n\r\n") + 4, len(whole) - 5, len(whole)]
    for cut in cuts:
        for does_read in (False, True) if cut == len(whole) else (False,):
            sock = dial()
            sock.sendall(whole[:cut])
            if does_read:
                sock.recv(20)
            if way == "resets":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
    for _ in range(3):
        assert answer_of(sent(dial(), ALIVE))[0] == 200
    assert [record.getMessage() for record in caplog.records] == []


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose timers are rung by the test."""

    def __init__(self):
        super().__init__()
        self.timers, self.passed_s = [], 0.0

    def time(self):
        return super().time() + self.passed_s

    def call_later(self, delay, callback, *args, context=None):
        timer = super().call_later(1e6, callback, *args, context=context)
        self.timers.append((delay, timer, partial(callback, *args)))
        return timer

    def ring(self, seconds):
        """Every timer that is due after so long, once."""
        due = [entry for entry in self.timers if entry[0] <= seconds]
        self.timers = [entry for entry in self.timers if entry[0] > seconds]
        for _, timer, call in due:
            if not timer.cancelled():
                timer.cancel()
                call()


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and whose reader may not read."""

    def __init__(self):
        super().__init__()
        self.written, self.unread_bytes, self.is_closed, self.is_aborted = b"", 0, False, False
        self.is_paused = False

    def write(self, data):
        self.written += data

    def close(self):
        self.is_closed = True

    def abort(self):
        self.is_closed = self.is_aborted = True

    def is_closing(self):
        return self.is_closed

    def can_write_eof(self):
        return True

    def write_eof(self):
        pass

    def pause_reading(self):
        self.is_paused = True

    def resume_reading(self):
        self.is_paused = False

    def get_write_buffer_size(self):
        return self.unread_bytes


@pytest.fixture
def wired(kernel):
    """A connection on a wire, with its clock."""
    from uvicorn.server import ServerState

    loop = Clock()
    config = Serving(create_app(kernel, Config(Path("/nowhere"))), 4, 1.0)
    made, wire = connection.Connection(config, ServerState(), {}, loop), Wire()
    made.connection_made(wire)

    def turn(times=20):
        for _ in range(times):
            loop.call_soon(loop.stop)
            loop.run_forever()

    yield made, wire, loop, turn
    made.connection_lost(None)
    turn()
    loop.close()


def test_a_connection_that_says_nothing_is_closed_without_a_word(wired):
    _, wire, loop, _ = wired
    loop.ring(connection.HEAD_S)
    assert (wire.is_closed, wire.written) == (True, b"")


@pytest.mark.parametrize("data", [b"GET /healthz HT", b"POST /v1/gc HTTP/1.1\r\n" + HOST])
def test_a_head_that_does_not_come_to_its_end_is_refused(wired, data):
    made, wire, loop, _ = wired
    for byte in data:  # one at a time moves no deadline
        made.data_received(bytes([byte]))
    loop.ring(connection.HEAD_S)
    assert code_of(wire.written) == (408, "too_slow")
    loop.ring(connection.LINGER_S)
    assert wire.is_aborted


def test_empty_lines_hold_no_connection(wired):
    made, wire, loop, turn = wired
    made.data_received(ALIVE)
    turn()
    made.data_received(b"\r\n")
    loop.ring(connection.HEAD_S)
    assert wire.is_closed


def test_only_a_connection_that_stays_quiet_after_an_answer_is_closed(wired):
    made, wire, loop, turn = wired
    made.data_received(ALIVE)
    turn()
    loop.passed_s += made.timeout_keep_alive - 1
    made.data_received(ALIVE)
    turn()
    loop.passed_s += 1.5
    loop.ring(made.timeout_keep_alive)  # that of the first answer
    assert not wire.is_closed
    loop.passed_s += made.timeout_keep_alive - 1
    loop.ring(made.timeout_keep_alive)
    assert wire.is_closed


def test_a_head_that_is_being_sent_is_not_cut_short_by_the_idle_timeout(wired):
    made, wire, loop, turn = wired
    made.data_received(ALIVE)
    turn()
    made.data_received(ALIVE[:10])
    loop.passed_s += made.timeout_keep_alive + 1
    loop.ring(made.timeout_keep_alive)
    assert not wire.is_closed
    made.data_received(ALIVE[10:])
    turn()
    assert wire.written.count(b"HTTP/1.1 200 ") == 2
    loop.passed_s += made.timeout_keep_alive + 1
    loop.ring(made.timeout_keep_alive)
    assert wire.is_closed


def test_a_body_that_comes_too_slowly_is_refused_and_its_handler_ends(wired):
    made, wire, loop, turn = wired
    made.data_received(ALIVE)
    turn()
    assert wire.written.startswith(b"HTTP/1.1 200")
    wire.written = b""
    made.data_received(b"POST /v1/tasks/tag HTTP/1.1\r\n" + HOST + b"Content-Length: 90000\r\n\r\n")
    made.data_received(b"x" * connection.LEAST_BYTES)
    turn()
    loop.ring(connection.BODY_S)
    assert (wire.is_closed, wire.written) == (False, b"")
    made.data_received(b"x" * 100)
    turn()
    loop.ring(connection.BODY_S)
    turn()
    assert code_of(wire.written) == (408, "too_slow")
    assert made.tasks == set()


def test_a_client_that_does_not_read_is_let_go_and_one_that_reads_slowly_is_not(wired):
    made, wire, loop, _ = wired
    wire.unread_bytes = 1_000_000
    made.pause_writing()
    wire.unread_bytes -= connection.LEAST_BYTES
    loop.ring(connection.WRITE_S)
    assert not wire.is_aborted
    loop.ring(connection.WRITE_S)
    assert wire.is_aborted


def test_a_client_that_reads_again_is_not_watched_any_longer(wired):
    made, wire, loop, _ = wired
    wire.unread_bytes = 1_000_000
    made.pause_writing()
    made.resume_writing()
    loop.ring(connection.WRITE_S)
    assert not wire.is_aborted
