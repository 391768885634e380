"""A day's file of records: written, found, erased to the last byte."""

from dataclasses import astuple, replace

import pytest

from llmos.abi.call_record import CallRecord, RequestFilter
from llmos.kernel.requests import day_file

PLAIN = CallRecord("a", 5.0, 0.1, "/v1/run", "m:1", "classify", "ok", 1, "k1", "ann", 3, 0)


@pytest.fixture
def path(tmp_path):
    return day_file.path_of(tmp_path, "2026-01-31")


def written(path, *records):
    with day_file.open_day(path) as database:
        day_file.write(database, [astuple(one) for one in records])


def test_a_record_comes_back_as_it_was(path):
    full = replace(PLAIN, inputs=({"text": "é 😀"},), outputs=({"label": "x"},))
    written(path, full)
    assert day_file.get(path, "a") == full
    assert day_file.get(path, "b") is None


def test_a_list_has_no_texts(path):
    written(path, replace(PLAIN, inputs=("secret",), outputs=({"label": "x"},)))
    assert day_file.find(path, RequestFilter(), 9) == [PLAIN]


def test_records_are_found_by_name_version_user_and_outcome_the_newest_first(path):
    others = [replace(PLAIN, id="b", at=6.0, model="m:2"), replace(PLAIN, id="c", at=7.0, model="mm:1", user="bob")]
    written(path, PLAIN, *others, replace(PLAIN, id="d", at=8.0, outcome="busy"))

    def ids(**wanted):
        return [one.id for one in day_file.find(path, RequestFilter(**wanted), 9)]

    assert ids() == ["d", "c", "b", "a"]
    assert ids(model="m") == ["d", "b", "a"]
    assert ids(model="m:1") == ["d", "a"]
    assert ids(user="bob") == ["c"]
    assert ids(outcome="busy", user="ann") == ["d"]


def test_what_is_erased_is_in_no_byte_of_the_files(path):
    text = "a text that nobody else has written"
    written(path, replace(PLAIN, inputs=(text,)), replace(PLAIN, id="b", user="bob"))
    assert day_file.erase(path, "ann") == 1
    assert day_file.get(path, "b") is not None
    for one in path.parent.iterdir():
        assert text.encode() not in one.read_bytes(), one


def test_nobody_is_not_a_user(path):
    written(path, replace(PLAIN, user=""))
    assert day_file.erase(path, "") == 0


def test_a_day_goes_with_the_files_beside_it(path):
    written(path, PLAIN)
    path.with_name(path.name + "-wal").touch()
    day_file.unlink(path)
    assert list(path.parent.iterdir()) == []


def test_days_are_the_files_that_are_named_for_one(path):
    written(path, PLAIN)
    (path.parent / "notes.db").touch()
    assert day_file.days_in(path.parent) == ["2026-01-31"]
