"""Bodies come plain or compressed; what they inflate to is bounded like what is sent."""

import gzip
import json
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, TooLong
from llmos.api.endpoint import CODINGS, inflated

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
            inflated(packed, limit, wbits=wbits)
    else:
        assert inflated(packed, limit, wbits=wbits) == body


@given(st.binary(max_size=60))
def test_any_bytes_are_inflated_or_refused(sent):
    with suppress(BadInput):  # and with nothing else
        assert len(inflated(sent, 1000, wbits=CODINGS["gzip"])) <= 1000
