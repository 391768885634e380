"""What keeps a day's database open writes into the file that is there, also when that is another one now."""

import sqlite3

import pytest

from llmos.abi.call_record import RequestFilter
from llmos.kernel.requests import day_file
from llmos.kernel.requests.day_writer import DayWriter

DAY, NEXT = "2026-01-31", "2026-02-01"


def row(call):
    return (call, 1.0, 0.1, "/v1/run", "m:1", "classify", "ok", 1, "", "", 1, 0, None, None)


@pytest.fixture
def writer(tmp_path):
    made = DayWriter(tmp_path)
    yield made
    made.close()


@pytest.fixture
def found(tmp_path):
    return lambda day: [one.id for one in day_file.find(day_file.path_of(tmp_path, day), RequestFilter(), 9)]


def test_rows_are_seen_at_once_and_one_database_is_open(writer, found, tmp_path):
    writer.write(DAY, [row("a")])
    assert found(DAY) == ["a"]
    writer.write(DAY, [row("b")])
    writer.write(NEXT, [row("c")])
    assert (found(DAY), found(NEXT)) == (["b", "a"], ["c"])
    beside = {one.name for one in tmp_path.iterdir()}
    assert (f"{DAY}.db-wal" in beside, f"{NEXT}.db-wal" in beside) == (False, True)


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_file_that_was_taken_away_is_made_anew(writer, found, tmp_path, is_made_anew):
    writer.write(DAY, [row("a")])
    day_file.unlink(day_file.path_of(tmp_path, DAY))
    if is_made_anew:
        with day_file.open_day(day_file.path_of(tmp_path, DAY)) as database:
            day_file.write(database, [row("other")])
    writer.write(DAY, [row("b")])
    assert found(DAY) == (["other", "b"] if is_made_anew else ["b"])


def test_after_a_failure_the_next_rows_are_written(writer, found, tmp_path):
    day_file.path_of(tmp_path, DAY).write_bytes(b"no database" * 1_000)
    with pytest.raises(sqlite3.DatabaseError):
        writer.write(DAY, [row("a")])
    day_file.path_of(tmp_path, DAY).unlink()
    writer.write(DAY, [row("b")])
    assert found(DAY) == ["b"]


def test_what_is_erased_leaves_no_byte_though_the_file_is_open(writer, tmp_path):
    told = ("a", 1.0, 0.1, "/v1/run", "m:1", "classify", "ok", 1, "", "ann", 1, 0, ("my secret",), None)
    writer.write(DAY, [told])
    assert day_file.erase(day_file.path_of(tmp_path, DAY), "ann") == 1
    assert not any(b"my secret" in one.read_bytes() for one in tmp_path.iterdir())
