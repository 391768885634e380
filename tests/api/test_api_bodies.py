"""Bodies come plain or compressed; what they inflate to is bounded like what is sent."""

import asyncio
import gzip
import json
import threading
import zlib
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from llmos.abi.error import BadInput, TooLong
from llmos.api.compression import CODINGS, FREE_BYTES, MAX_RATIO, MEMBERS, decompress_body
from llmos.api.endpoint import AT_ONCE_BYTES, Bodies, decode_body
from llmos.testing.errors import fails_with

BODY = json.dumps({"model": "minilm", "input": "hello"}).encode()


@pytest.mark.parametrize(
    ("coding", "packed"), [("gzip", gzip.compress(BODY)), ("deflate", zlib.compress(BODY))], ids=["gzip", "deflate"]
)
def test_a_compressed_body_is_read_on_every_route(ask, coding, packed):
    for path in ("/v1/embeddings", "/v1/tasks/embed"):
        answer = ask("POST", path, packed, headers={"Content-Encoding": coding})
        assert answer.status_code == 200, answer.text


def test_a_body_that_inflates_beyond_the_limit_is_refused(ask):
    bomb = gzip.compress(b" " * 10_000_000)
    answer = ask("POST", "/v1/embeddings", bomb[:4000], headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_long")


@pytest.mark.parametrize(
    "sent",
    [BODY, gzip.compress(BODY)[:-4], gzip.compress(BODY) + b"more"],
    ids=["plain", "cut", "and more"],
)
def test_what_is_no_whole_gzip_is_refused(ask, sent):
    answer = ask("POST", "/v1/embeddings", sent, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "content-encoding")


def test_a_coding_that_is_not_known_is_refused_by_name(ask):
    answer = ask("POST", "/v1/embeddings", BODY, headers={"Content-Encoding": "br"})
    assert answer.status_code == 400
    assert "'br'" in answer.json()["error"]["message"]


@given(st.binary(max_size=200), st.integers(0, 200))
def test_what_is_inflated_is_what_was_compressed_or_over_the_limit(body, limit):
    packed, wbits = gzip.compress(body), CODINGS["gzip"]
    if len(body) > limit:
        with pytest.raises(TooLong):
            decompress_body(packed, limit, wbits=wbits)
    else:
        assert decompress_body(packed, limit, wbits=wbits) == body


@given(st.binary(max_size=60))
def test_any_bytes_are_inflated_or_refused(sent):
    with suppress(BadInput):  # and with nothing else
        assert len(decompress_body(sent, 1000, wbits=CODINGS["gzip"])) <= 1000


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
def test_a_body_in_gzip_is_all_its_members(parts):
    packed = b"".join(gzip.compress(part) for part in parts)
    assert decompress_body(packed, 1000, wbits=CODINGS["gzip"]) == b"".join(parts)
    with fails_with(BadInput, key="content-encoding", reason="cut"):
        decompress_body(packed[:-1], 1000, wbits=CODINGS["gzip"])


def test_members_are_bounded_in_number_and_together_in_size():
    empty = gzip.compress(b"")
    assert decompress_body(empty * MEMBERS, 1, wbits=CODINGS["gzip"]) == b""
    with fails_with(BadInput, key="content-encoding", reason="trailing"):
        decompress_body(empty * (MEMBERS + 1), 1, wbits=CODINGS["gzip"])
    with pytest.raises(TooLong):
        decompress_body(gzip.compress(b"abc") * 4, 11, wbits=CODINGS["gzip"])
    with fails_with(BadInput, key="content-encoding", reason="trailing"):
        decompress_body(zlib.compress(b"a") * 2, 9, wbits=CODINGS["deflate"])


def test_a_body_inflates_to_no_more_than_so_many_times_what_was_sent():
    packed = gzip.compress(b" " * (2 * FREE_BYTES))
    assert len(packed) * MAX_RATIO < 2 * FREE_BYTES
    with fails_with(TooLong, ratio=MAX_RATIO, limit=...):
        decompress_body(packed, 64 * FREE_BYTES, wbits=CODINGS["gzip"])
    assert len(decompress_body(gzip.compress(b" " * FREE_BYTES), 64 * FREE_BYTES, wbits=CODINGS["gzip"])) == FREE_BYTES


@pytest.mark.parametrize("size", [10, AT_ONCE_BYTES + 1], ids=["small", "large"])
def test_what_is_made_of_a_large_body_is_made_beside_the_loop(size):
    class Share:
        def take(self, size_bytes):
            pass

    async def receive():
        return {"type": "http.request", "body": b'"' + b"x" * size + b'"', "more_body": False}

    async def thread_of():
        scope = {"type": "http", "method": "POST", "headers": [], "share": Share()}
        here = threading.get_ident()
        bodies = Bodies(2 * AT_ONCE_BYTES)
        made = await bodies.read_as(Request(scope, receive), msgspec.json.Decoder(), lambda _: threading.get_ident())
        return made == here

    assert asyncio.run(thread_of()) is (size <= AT_ONCE_BYTES)


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    a: int = 1


STRICT = msgspec.json.Decoder(Strict)


def test_the_name_of_a_field_that_nobody_knows_is_told_in_part_and_looked_for_once():
    name = " - at `$" * 40_000
    with pytest.raises(BadInput) as refused:
        decode_body(json.dumps({name: 1}).encode(), STRICT)
    assert len(refused.value.message) < 500
    assert len(refused.value.detail["key"]) <= 100


def test_a_field_that_is_null_is_as_if_it_was_not_sent():
    assert decode_body(b'{"zz": null, "a": null}', STRICT) == Strict()
    for body, detail in ((b'{"zz": 1, "a": null}', {"key": "zz"}), (b'{"a": [null]}', {"key": "a"}), (b"null", {})):
        with fails_with(BadInput, **detail):
            decode_body(body, STRICT)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tasks/chat", {"input": "hello", "zz": None, "params": {"zz": None, "seed": 1, "n": None}}),
        ("/v1/tasks/chat", {"input": "hello", "params": None, "stream": None, "class": None}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "stream_options": {"zz": None}}),
        (
            "/v1/completions",
            {"prompt": "a", "response_format": {"type": "text", "zz": None, "json_schema": {"z": None}}},
        ),
    ],
)
def test_null_asks_for_nothing_wherever_a_field_may_stand(ask, path, body):
    answer = ask("POST", path, {"model": "smollm2", **body})
    assert answer.status_code == 200, answer.text
