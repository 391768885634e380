"""The home's key for ids of rows: made once, private, and the same after a restart."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from llmos.abi.error import Corrupt
from llmos.kernel.store.row_key import FILE, row_key


def test_the_key_is_made_once_and_is_private(tmp_path: Path):
    key = row_key(tmp_path)
    assert len(key) == 32
    assert row_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_two_homes_have_two_keys(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).mkdir()
    assert row_key(tmp_path / "a") != row_key(tmp_path / "b")


def test_a_damaged_key_is_never_replaced_in_silence(tmp_path: Path):
    (tmp_path / FILE).write_bytes(b"short")
    with pytest.raises(Corrupt):
        row_key(tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"short"
