"""Copies of files that are written meanwhile."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path, PosixPath

import pytest

from llmos.abi.error import Conflict, Unavailable
from llmos.backup.stable_copy import copy_stable, pour


def test_a_copy_has_the_bytes_and_their_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    measure = copy_stable(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"x" * 3_000_000
    assert (measure.digest, measure.size_bytes) == (hashlib.sha256(b"x" * 3_000_000).hexdigest(), 3_000_000)


def test_of_a_file_that_grows_the_beginning_is_copied(tmp_path):
    (tmp_path / "a").write_bytes(b"first")
    with (tmp_path / "a").open("rb") as file:
        (tmp_path / "a").write_bytes(b"first and second")
        assert pour(file, None, 5).digest == hashlib.sha256(b"first").hexdigest()


class Rewritten(PosixPath):
    """A file that somebody rewrites in place while it is read."""

    def open(self, mode="r"):
        return Disturbed(self, super().open(mode))


class Disturbed:
    def __init__(self, path, file):
        self.path, self.file = Path(path), file

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.file.close()

    def fileno(self):
        return self.file.fileno()

    def read(self, size):
        data = self.file.read(size)
        self.path.write_bytes(self.path.read_bytes())
        os.utime(self.path, ns=(1, self.path.stat().st_mtime_ns + 1))
        return data


def test_a_file_that_is_rewritten_in_place_each_time_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"first")
    with pytest.raises(Unavailable):
        copy_stable(Rewritten(tmp_path / "a"), tmp_path / "b")


def test_a_database_that_is_open_in_wal_mode_is_copied_whole(tmp_path):
    with closing(sqlite3.connect(tmp_path / "rows.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE rows (n)")
        db.executemany("INSERT INTO rows VALUES (?)", [(n,) for n in range(1000)])
        copy_stable(tmp_path / "rows.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*), sum(n) FROM rows").fetchone() == (1000, 499_500)
    assert not (tmp_path / "copy.db-wal").exists()


def test_a_file_that_only_begins_like_a_database_is_copied_as_it_is(tmp_path):
    (tmp_path / "part.db").write_bytes(b"SQLite format 3\0")
    assert copy_stable(tmp_path / "part.db", tmp_path / "b").size_bytes == 16


def test_a_database_that_is_held_by_one_alone_is_refused(tmp_path):
    with closing(sqlite3.connect(tmp_path / "held.db", isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("CREATE TABLE rows (n)")
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Conflict):
            copy_stable(tmp_path / "held.db", tmp_path / "copy.db")
