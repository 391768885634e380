"""What a soak holds answers to: the right text, the right numbers, and the beginning of a text that was cut off."""

from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from bench.traffic import Caller, Question, Wrong, margin, same
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

TOLD = Question("generate", "smollm2", ("Once",), {"temperature": 0}, right=("upon a time",))


def test_a_text_must_be_the_very_same_and_as_often_as_it_was_asked_for() -> None:
    TOLD.check([{"text": "upon a time"}])
    for wrong in ([{"text": "upon a tide"}], [], [{"text": "upon a time"}] * 2):
        with pytest.raises(Wrong):
            TOLD.check(wrong)


def test_a_text_that_was_cut_off_must_begin_like_the_right_one() -> None:
    TOLD.check_beginning("upon a")
    with pytest.raises(Wrong):
        TOLD.check_beginning("upon the")


def test_where_the_right_text_is_not_known_it_must_match_its_rule() -> None:
    asked = Question("chat", "smollm2", ("Is it?",), {}, rule="(yes|no)")
    asked.check([{"message": {"content": "no"}}])
    with pytest.raises(Wrong):
        asked.check([{"message": {"content": "not at all"}}])


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"score": 0.5}, {"score": 0.5 + 1e-7}, True),
        ({"score": 0.5}, {"score": 0.5001}, False),
        ({"vector": [0.1, 0.2]}, {"vector": [0.1, 0.2 + 1e-7]}, True),
        ({"vector": [0.1, 0.2]}, {"vector": [0.1]}, False),
        ({"vector": [0.1, math.nan]}, {"vector": [0.1, 0.2]}, False),
        ({"spans": [{"label": "PER", "start": 0}]}, {"spans": [{"label": "PER", "start": 0}]}, True),
        ({"spans": [{"label": "PER", "start": 0}]}, {"spans": [{"label": "LOC", "start": 0}]}, False),
        ({"spans": []}, {"spans": [], "more": 1}, False),
    ],
)
def test_numbers_may_differ_by_the_order_of_a_sum_and_nothing_else_may(one: object, other: object, is_same: bool):
    assert same(one, other) is is_same


def test_the_margin_of_a_token_is_to_the_likeliest_other() -> None:
    top = [{"bytes": [1], "logprob": -0.5}, {"bytes": [2], "logprob": -0.75}]
    assert margin({"bytes": [1], "logprob": -0.5, "top_logprobs": top}) == 0.25
    assert margin({"bytes": [1], "logprob": 0.0, "top_logprobs": top[:1]}) == math.inf


def test_only_the_answer_given_alone_counts_as_right(tmp_path) -> None:
    with serving(MemoryKernel(), Config(tmp_path)) as url, closing(Caller(url, seed=1, is_calm=True)) as caller:
        asked, _ = caller.alone(Question("classify", "support", ("Where is it?", "Why?"), {}))
        said, _ = caller.alone(Question("generate", "smollm2", ("Once",), {"temperature": 0, "max_tokens": 4}))
        for _ in range(4):  # some of them streamed
            assert caller.ask(asked) == ("answered", 2)
            assert caller.ask(said) == ("answered", 1)
        with pytest.raises(Wrong):
            caller.ask(Question("classify", "support", ("Who?", "Why?"), {}, right=asked.right))
        assert caller.ask(asked.of("nobody")) == ("model_not_found", 0)


@contextmanager
def closing_after(calls: list[int]) -> Iterator[str]:
    """The address of a server that closes its connections, one after the other, when so many calls were answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for count in calls:
                connection, _ = server.accept()
                with connection, connection.makefile("rwb") as file:
                    for _ in range(count):
                        lines = list(iter(file.readline, b"\r\n"))
                        file.read(
                            next(int(line.split()[1]) for line in lines if line.lower().startswith(b"content-length"))
                        )
                        body = json.dumps({"outputs": [{"text": "upon a time"}]}).encode()
                        file.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                        file.flush()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_call_to_a_kept_connection_that_was_closed_goes_to_a_new_one() -> None:
    asked = Question("classify", "support", ("Once",), {}, right=({"text": "upon a time"},))
    with closing_after([1, 2]) as url, closing(Caller(url, seed=1, is_calm=True)) as caller:
        assert [caller.ask(asked) for _ in range(3)] == [("answered", 1)] * 3


def test_a_new_connection_that_is_closed_without_an_answer_is_told() -> None:
    with closing_after([0]) as url, closing(Caller(url, seed=1, is_calm=True)) as caller:
        how, answers = caller.ask(Question("classify", "support", ("Once",), {}, right=()))
        assert (how.partition(":")[0], answers) == ("connection", 0)
