"""The record of a backup: it is what was written, or it is refused."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import Corrupt
from llmos.backup.record import BackupFile, BackupRecord, decode_record, encode_record

RECORD = BackupRecord("20261129T180000-000000", 1.5, "0.1.0", "/home/box", (BackupFile("a/b", "ab" * 32, 3, 0o600),))


def test_a_record_is_read_as_it_was_written():
    assert decode_record(encode_record(RECORD), "here") == RECORD


@given(st.data())
def test_no_byte_of_it_can_be_changed(data):
    written = bytearray(encode_record(RECORD))
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] ^= data.draw(st.integers(1, 255))
    try:
        assert decode_record(bytes(written), "here") == RECORD
    except Corrupt:
        return


@given(st.integers(0, len(encode_record(RECORD)) - 1))
def test_a_part_of_it_is_none(length):
    with pytest.raises(Corrupt):
        decode_record(encode_record(RECORD)[:length], "here")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a//b", "a\0b"])
def test_a_path_outside_of_the_home_is_refused(path):
    bad = BackupRecord("20261129T180000-000000", 1.5, "0.1.0", "/h", (BackupFile(path, "ab" * 32, 3, 0o600),))
    with pytest.raises(Corrupt):
        decode_record(encode_record(bad), "here")


def test_a_newer_form_is_refused():
    head, _, body = encode_record(RECORD).partition(b"\n")
    newer = {**json.loads(head), "form": 99, "sha256": hashlib.sha256(body).hexdigest()}
    with pytest.raises(Corrupt):
        decode_record(json.dumps(newer).encode() + b"\n" + body, "here")
