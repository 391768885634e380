"""What is kept of a call, by the settings."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from llmos.abi.call_record import RequestFilter, new_call_id
from llmos.abi.error import NotFound
from llmos.config import Config
from llmos.kernel.requests.call_row import record_of
from llmos.kernel.requests.request_service import RequestService


def row(outcome="ok", outputs=({"label": "x"},), user=""):
    at = 1_750_000_000.0
    return (new_call_id(at), at, 0.1, "/v1/run", "m:1", "classify", outcome, 1, "", user, 0, 0, ("a",), outputs)


@pytest.fixture
def service(tmp_path):
    made = []

    def make(**settings):
        made.append(RequestService(Config(home=Path(tmp_path), request_log_days=36_500, **settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def logged(service):
    return asyncio.run(service.find(RequestFilter(limit=1_000)))


def test_by_default_nothing_is_written_and_recent_calls_are_in_memory(service, tmp_path):
    default, one = service(), row()
    default.note(one)
    assert default.recent.get(one[0]) == record_of(one)
    assert logged(default) == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_kept_where_both_are_off(service):
    off = service(recent_calls_bytes=0)
    assert (off.is_on, off.keeps_text) == (False, False)


def test_the_log_has_no_texts_unless_they_are_opted_in(service):
    plain, one = service(request_log="all"), row()
    plain.note(one)
    found = asyncio.run(plain.get(one[0]))
    assert (found.id, found.inputs, found.outputs) == (one[0], None, None)
    full, two = service(request_log="all", request_log_text=True), row()
    full.note(two)
    assert asyncio.run(full.get(two[0])) == record_of(two)


def test_a_sample_is_a_share_of_the_calls(service):
    sampled = service(request_log="sampled", request_log_share=0.2)
    for _ in range(500):
        sampled.note(row())
    assert 50 < len(logged(sampled)) < 170


def test_failed_calls_are_logged_and_not_kept_for_feedback(service):
    both, one = service(request_log="all"), row("busy", None)
    both.note(one)
    assert logged(both)[0].outcome == "busy"
    assert both.recent.get(one[0]) is None


def test_the_sentence_about_a_call_that_was_not_logged_names_the_setting(service):
    with pytest.raises(NotFound, match="request_log"):
        asyncio.run(service().get(row()[0]))


def test_a_user_is_erased_from_memory_too(service):
    both = service(request_log="all")
    one = row(user="ann")
    both.note(one)
    assert asyncio.run(both.erase("ann")) == 1
    assert both.recent.get(one[0]) is None


def test_a_damaged_file_of_the_log_keeps_no_text_of_a_user_elsewhere(service, tmp_path):
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "2025-06-15.db").write_bytes(b"no database" * 1_000)
    asked = []

    async def erase(user):
        asked.append(user)
        return 1

    made = service()
    made.also_erase(erase)
    with pytest.raises(sqlite3.DatabaseError):
        asyncio.run(made.erase("ann"))
    assert asked == ["ann"]


def test_a_call_under_way_while_its_user_is_erased_leaves_nothing(tmp_path):
    now = [1_750_000_000.5]
    service = RequestService(
        Config(home=tmp_path, request_log_days=36_500, request_log="all", request_log_text=True), lambda: now[0]
    )
    before, other = row(user="ann"), row(user="bob")
    asyncio.run(service.erase("ann"))
    for one in (before, other):
        service.note(one)
    assert service.recent.get(before[0]) is None
    assert [one.user for one in logged(service)] == ["bob"]
    now[0] = 1_749_999_999.0
    asyncio.run(service.erase("bob"))
    later = row(user="bob")
    service.note(later)
    assert service.recent.get(later[0]).inputs == ("a",)
    assert [one.id for one in logged(service)] == [later[0]]
    service.close()
