"""The request log: written by a thread, kept for some days, bounded in memory; a full disk loses records alone."""

import asyncio
import sqlite3

import pytest

from llmos.abi.call_record import RequestFilter, new_call_id
from llmos.abi.error import NotFound
from llmos.kernel.requests import day_file
from llmos.kernel.requests.call_row import record_of
from llmos.kernel.requests.request_log import RequestLog

NOON = 1_750_000_000.0
DAY = 86_400.0


def row(at=NOON, user="", text="hello", call=None):
    call = new_call_id(at) if call is None else call
    return (call, at, 0.1, "/v1/run", "m:1", "classify", "ok", 1, "", user, 1, 0, (text,), ({"label": "x"},))


@pytest.fixture
def log(tmp_path):
    made = RequestLog(tmp_path / "requests", 3, gather_s=0.01, clock=lambda: NOON)
    yield made
    made.close()


def find(log, **wanted):
    return asyncio.run(log.find(RequestFilter(**wanted)))


def test_what_is_added_is_found_at_once(log):
    one = row(user="ann")
    log.add(one)
    assert [found.id for found in find(log)] == [one[0]]
    assert asyncio.run(log.get(one[0])) == record_of(one)
    assert (log.written_count, log.lost_count, log.waiting_bytes) == (1, 0, 0)


def test_each_day_has_a_file_and_all_are_searched_the_newest_first(log):
    old, new = row(NOON - DAY), row(NOON)
    log.add(old)
    log.add(new)
    assert [one.id for one in find(log)] == [new[0], old[0]]
    assert [one.id for one in find(log, limit=1)] == [new[0]]
    assert [one.id for one in find(log, day="2025-06-14")] == [old[0]]
    assert day_file.days_in(log.folder) == ["2025-06-15", "2025-06-14"]


def test_a_call_that_came_before_midnight_and_began_after_it_is_found_by_its_id(log):
    midnight = NOON - NOON % DAY
    one = row(midnight + 0.5, call=new_call_id(midnight - 0.5))
    log.add(one)
    assert asyncio.run(log.get(one[0])) == record_of(one)
    assert [found.id for found in find(log, day="2025-06-14")] == [one[0]]


def test_days_that_are_over_are_unlinked(log):
    for days in (4, 3, 2):
        log.add(row(NOON - days * DAY))
    asyncio.run(log.erase("nobody"))
    log.add(row())
    find(log)
    assert day_file.days_in(log.folder) == ["2025-06-15", "2025-06-13"]


def test_a_user_is_erased_also_from_what_waits(log):
    mine, other = row(user="ann"), row(user="bob")
    log.add(mine)
    log.add(other)
    assert asyncio.run(log.erase("ann")) == 1
    assert [one.id for one in find(log)] == [other[0]]


def test_more_than_may_wait_is_dropped_and_counted(tmp_path):
    log = RequestLog(tmp_path, 3, most_waiting_bytes=5_000, gather_s=60.0, clock=lambda: NOON)
    for _ in range(50):
        log.add(row())
    assert log.waiting_bytes <= 5_000
    assert log.lost_count > 30
    kept = 50 - log.lost_count
    log.close()
    assert log.written_count == kept


def test_a_disk_that_takes_nothing_loses_records_and_says_so_once(tmp_path, caplog):
    (tmp_path / "requests").write_text("a file where the folder should be")
    log = RequestLog(tmp_path / "requests", 3, gather_s=0.001, clock=lambda: NOON)
    for _ in range(3):
        log.add(row())
        asyncio.run(log.erase("nobody"))
    log.close()
    assert (log.written_count, log.lost_count) == (0, 3)
    assert len([one for one in caplog.records if "lost" in one.getMessage()]) == 1


def test_what_waits_is_written_when_the_log_closes(tmp_path):
    log = RequestLog(tmp_path, 3, gather_s=60.0, clock=lambda: NOON)
    log.add(row())
    log.close()
    assert len(find(RequestLog(tmp_path, 3, clock=lambda: NOON))) == 1


def test_an_id_that_is_none_is_refused(log):
    with pytest.raises(NotFound):
        asyncio.run(log.get("42"))
    assert asyncio.run(log.get(new_call_id(NOON))) is None


def test_a_failing_search_raises_where_it_is_awaited_and_the_log_goes_on(log):
    log.add(row())
    find(log)
    (log.folder / "2025-06-14.db").write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        find(log)
    with pytest.raises(sqlite3.DatabaseError):
        asyncio.run(log.erase("ann"))
    log.add(row(NOON + 1, user="x"))
    assert find(log, day="2025-06-15")[0].user == "x"


def test_more_rows_than_a_statement_takes_are_all_written(log):
    rows = [row(user=str(number)) for number in range(2 * day_file.MOST_AT_ONCE + 3)]
    for one in rows:
        log.add(one)
    found = find(log, limit=1_000)
    assert {one.id for one in found} == {one[0] for one in rows}
    assert {one.user for one in found} == {one[9] for one in rows}


def test_a_call_without_an_id_is_in_the_file_of_its_day(log):
    for at in (NOON, NOON - DAY):
        log.add(row(at, call=""))
    find(log)
    assert day_file.days_in(log.folder) == ["2025-06-15", "2025-06-14"]
