"""Beside bulk calls on the same base, who asks little is answered while they are still under way."""

import json
import select
import socket
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse

import pytest

pytestmark = pytest.mark.acceptance

TEXT = "a parcel that has not come yet and that nobody has seen " * 5  # 60 words
FULL = 2048
ASKED = 5


@contextmanager
def bulk(house, priority):
    """A full bulk call on its way; its caller hangs up at the end, and waits for no answer."""
    inputs = [f"{n} {TEXT}" for n in range(FULL)]
    body = json.dumps({"model": "minilm", "inputs": inputs, "class": priority, "timeout_s": 60}).encode()
    head = f"POST /v1/tasks/embed HTTP/1.1\r\nHost: 127.0.0.1:{house.port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", house.port), timeout=120) as sock:
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield sock


def are_answered(sockets):
    return bool(select.select(sockets, [], [], 0)[0])


@pytest.mark.parametrize("classes", [("interactive",), ("background",), ("background", "batch", "interactive")])
def test_a_small_call_is_answered_while_bulk_calls_of_its_class_are_under_way(minilm, classes):
    with minilm.client() as box:
        assert box.run("minilm", "warm").vector
        with ExitStack() as calls:
            work = [calls.enter_context(bulk(minilm, priority)) for priority in classes]
            while box.status().in_flight < len(classes):
                assert not are_answered(work), "a bulk call was over before the neighbour came"
            for number in range(ASKED):
                assert box.run("minilm", f"where is parcel {number}?").vector
            assert not are_answered(work), "the bulk calls were over before the neighbour was answered"
            if classes == ("interactive",):
                answer = HTTPResponse(work[0])
                answer.begin()
                assert answer.status in (200, 504)  # on a slow machine it was under way all that time
                assert answer.status == 504 or len(json.load(answer)["outputs"]) == FULL
        while box.status().in_flight:
            assert box.run("minilm", "and on").vector, "who hung up is forgotten"
