"""Forms as they come: any parts in any pieces, and what is no form."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.api.multipart import MOST_HEADER_BYTES, MOST_PARTS, MultipartParser, PartBegin, PartData, PartEnd

TYPE = 'multipart/form-data; boundary="edge"'


def form(parts):
    """A body with these parts: (name, file name or None, bytes)."""
    body = b""
    for name, file_name, data in parts:
        file = "" if file_name is None else f'; filename="{file_name}"'
        head = f'Content-Disposition: form-data; name="{name}"{file}\r\nContent-Type: text/plain\r\n\r\n'
        body += b"--edge\r\n" + head.encode() + data + b"\r\n"
    return body + b"--edge--\r\n"


def read(body, cuts, kind=TYPE):
    """What the parser gives of a body that comes in pieces cut at these places: (name, file name, bytes)."""
    parser, found = MultipartParser(kind), []
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for start, stop in pairwise(places):
        for event in parser.feed(body[start:stop]):
            match event:
                case PartBegin(name, file_name):
                    found.append([name, file_name, b"", False])
                case PartData(data):
                    found[-1][2] += data
                case PartEnd():
                    found[-1][3] = True
    parser.finish()
    assert all(one[3] for one in found)
    return [tuple(one[:3]) for one in found]


NAMES = st.text("abcxyz[]_", min_size=1, max_size=8)
DATA = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"--edg", b"\r\n--edg", b"x", b"\x00\xff"])).map(
    b"".join
)
PARTS = st.lists(st.tuples(NAMES, st.none() | NAMES, DATA), min_size=1, max_size=4)


@given(PARTS, st.lists(st.integers(0, 1000), max_size=20))
def test_any_parts_in_any_pieces_are_read_as_they_were_sent(parts, cuts):
    assert read(form(parts), cuts) == parts


def test_one_byte_at_a_time_is_read_too():
    parts = [("file", "rows.jsonl", b'{"a": 1}\n'), ("purpose", None, b"batch")]
    body = form(parts)
    assert read(body, range(len(body))) == parts


def test_parts_of_many_bytes_in_one_piece_are_read():
    parts = [("purpose", None, b"batch"), ("file", "rows.jsonl", b"x" * 3 * MOST_HEADER_BYTES)]
    assert read(form(parts), []) == parts


def test_a_preamble_and_spaces_behind_a_boundary_are_passed_over():
    body = b"a word before\r\n" + form([("a", None, b"1")]).replace(b"--edge\r\n", b"--edge \t\r\n")
    assert read(body, []) == [("a", None, b"1")]


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=edge"])
def test_what_is_no_form_is_refused(kind):
    with pytest.raises(BadInput):
        MultipartParser(kind)


@pytest.mark.parametrize(
    "body",
    [
        form([("a", None, b"1")])[:-8],
        b"no boundary at all",
        b"--edge\r\nContent-Type: text/plain\r\n\r\n1\r\n--edge--",
        b"--edgeX\r\n\r\n",
        b"--edge\r\n" + b"x" * (2 * MOST_HEADER_BYTES),
        form([("a", None, b"")] * (MOST_PARTS + 1)),
    ],
    ids=["cut", "none", "nameless", "longer boundary", "long headers", "many parts"],
)
def test_a_form_that_is_broken_or_endless_is_refused(body):
    with pytest.raises(BadInput):
        read(body, [])


def test_names_with_quotes_are_as_browsers_and_curl_write_them():
    for written in ("a%22b", 'a\\"b'):
        body = form([("file", written, b"")])
        assert read(body, []) == [("file", 'a"b', b"")]
