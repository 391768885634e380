"""The audit log as it is written: it goes on after an end and a kill, and says what a crash has broken off."""

from __future__ import annotations

import asyncio
import os
import stat

import pytest

from llmos.abi.audit import BEGUN_ANEW, MENDED, AuditEntry, AuditFilter
from llmos.config import Config
from llmos.kernel.audit.audit_files import FOLDER, HEAD, KEY, AuditFiles
from llmos.kernel.audit.audit_log import AuditLog
from llmos.kernel.audit.audit_service import AuditService
from llmos.kernel.audit.verification import verify

NOON = 1_750_000_000.0


def append(home, *refs):
    AuditLog(home, clock=lambda: NOON).append([AuditEntry("k", "POST /v1/keys", ref) for ref in refs])


def shown(home, **wanted):
    return [(one.seq, one.what, one.ref) for one in AuditLog(home).find(AuditFilter(**wanted))]


def end_of_log(home):
    return AuditFiles(home).segments()[-1]


def test_entries_are_numbered_over_restarts_and_found_the_newest_first(tmp_path):
    append(tmp_path, "a", "b")
    append(tmp_path, "c")
    assert [one[0] for one in shown(tmp_path)] == [3, 2, 1]
    assert shown(tmp_path, ref="b") == [(2, "POST /v1/keys", "b")]
    assert shown(tmp_path, who="other") == shown(tmp_path, what="DELETE") == shown(tmp_path, since=NOON + 1) == []
    assert len(shown(tmp_path, limit=2)) == 2


def test_key_head_and_entries_are_the_owner_s_alone(tmp_path):
    append(tmp_path, "a")
    for path in (tmp_path / KEY, end_of_log(tmp_path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("size", [1, 40, 90, 150])
def test_a_write_that_a_crash_broke_off_is_removed_and_said(tmp_path, size):
    """Its bytes are behind the head: nobody has heard that they were there."""
    append(tmp_path, "a", "b")
    head, whole = (tmp_path / HEAD).read_bytes(), end_of_log(tmp_path).read_bytes()
    append(tmp_path, "c")
    torn = end_of_log(tmp_path).read_bytes()[: len(whole) + size]
    (tmp_path / HEAD).write_bytes(head)
    end_of_log(tmp_path).write_bytes(torn)
    found = verify(tmp_path)
    assert (found.findings, found.unfinished_bytes) == ((), size)
    append(tmp_path, "d")
    assert [one[1:] for one in shown(tmp_path)[:2]] == [("POST /v1/keys", "d"), (MENDED, shown(tmp_path)[1][2])]
    assert str(size) in shown(tmp_path)[1][2]
    assert verify(tmp_path).findings == ()


def test_an_entry_that_was_whole_when_the_head_was_not_written_stays(tmp_path):
    append(tmp_path, "a")
    head = (tmp_path / HEAD).read_bytes()
    append(tmp_path, "b")
    (tmp_path / HEAD).write_bytes(head)
    append(tmp_path, "c")
    assert [one[2] for one in shown(tmp_path)] == ["c", "b", "a"]
    assert verify(tmp_path).findings == ()


@pytest.mark.parametrize("how", ["cut", "emptied", "removed", "head removed", "head changed", "key removed", "edited"])
def test_a_log_that_was_tampered_with_stays_so_after_a_start(tmp_path, how):
    append(tmp_path, "a", "b")
    append(tmp_path, "c")
    path = end_of_log(tmp_path)
    data = path.read_bytes()
    match how:
        case "cut":
            path.write_bytes(b"".join(data.splitlines(keepends=True)[:-1]))
        case "emptied":
            path.write_bytes(b"")
        case "removed":
            path.unlink()
        case "head removed":
            (tmp_path / HEAD).unlink()
        case "head changed":
            (tmp_path / HEAD).write_bytes(b"0" * 64 + (tmp_path / HEAD).read_bytes()[64:])
        case "key removed":
            (tmp_path / KEY).unlink()
        case _:
            path.write_bytes(data.replace(b'"a"', b'"x"', 1))
    assert verify(tmp_path).findings
    append(tmp_path, "d")
    append(tmp_path, "e")
    assert verify(tmp_path).findings
    assert [one[2] for one in shown(tmp_path, limit=2)] == ["e", "d"]
    assert (how == "edited") != any(one[1] == BEGUN_ANEW for one in shown(tmp_path))


def test_a_crash_between_head_and_key_begins_once_more(tmp_path):
    append(tmp_path, "a")
    for path in (tmp_path / KEY, end_of_log(tmp_path)):
        path.unlink()
    append(tmp_path, "b")
    assert shown(tmp_path) == [(1, "POST /v1/keys", "b")]
    assert verify(tmp_path).findings == ()


def test_a_crash_before_the_first_entry_leaves_nothing_to_find(tmp_path):
    AuditFiles(tmp_path).make_key()
    assert verify(tmp_path).findings == ()
    append(tmp_path, "a")
    assert verify(tmp_path).findings == ()


def test_a_segment_that_outlived_its_time_goes_at_the_next_start(tmp_path):
    log = AuditLog(tmp_path, clock=lambda: NOON, segment_bytes=100, most_segments=2)
    log.append([AuditEntry("k", "x")])
    first = AuditFiles(tmp_path).segments()[0]
    data = first.read_bytes()
    for _ in range(3):
        log.append([AuditEntry("k", "x")])
    first.write_bytes(data)  # as if it had not been removed
    assert verify(tmp_path).findings == ()
    append(tmp_path, "a")
    assert not first.exists()
    assert verify(tmp_path).findings == ()


def test_a_full_disk_loses_entries_and_the_log_stays_whole(tmp_path, caplog):
    async def play():
        service = AuditService(tmp_path)
        await service.add(AuditEntry("k", "x", "a"))
        folder = tmp_path / FOLDER
        folder.rename(tmp_path / "away")
        (tmp_path / FOLDER).write_bytes(b"")  # nothing can be written there
        await service.add(AuditEntry("k", "x", "lost"))
        (tmp_path / FOLDER).unlink()
        (tmp_path / "away").rename(folder)
        await service.add(AuditEntry("k", "x", "b"))
        return service

    service = asyncio.run(play())
    assert service.lost_count == 1
    assert "lost" in caplog.text
    assert [one[2] for one in shown(tmp_path)] == ["b", "a"]
    assert verify(tmp_path).findings == ()


def test_entries_of_one_moment_are_all_there(tmp_path):
    async def play():
        service = AuditService(tmp_path)
        await asyncio.gather(*(service.add(AuditEntry("k", "x", str(i))) for i in range(50)))

    asyncio.run(play())
    assert sorted(int(one[2]) for one in shown(tmp_path)) == list(range(50))
    assert verify(tmp_path).findings == ()


def test_settings_that_changed_since_the_last_start_are_named_without_their_values(tmp_path):
    async def start(**settings):
        service = AuditService(tmp_path)
        await service.began(Config(tmp_path, **settings))
        await service.note_end()

    for settings in ({}, {}, {"port": 9000, "hub_token": "secret-token"}):
        asyncio.run(start(**settings))
    assert [one[1:] for one in shown(tmp_path, what="settings")] == [("settings", "port, hub_token")]
    assert not any(b"secret-token" in path.read_bytes() for path in (tmp_path / FOLDER).iterdir())


def test_a_child_that_is_killed_at_any_moment_leaves_a_log_that_is_whole(tmp_path):
    """It appends for ever; what it had acknowledged before its end is there, and nothing is taken for tampering."""
    for _ in range(5):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            log = AuditLog(tmp_path)
            while True:
                log.append([AuditEntry("k", "x", "r" * 50)])
                os.write(writing, b".")
        os.close(writing)
        acknowledged = sum(len(os.read(reading, 1)) for _ in range(20))
        before = verify(tmp_path).last
        os.kill(child, 9)
        os.waitpid(child, 0)
        acknowledged += len(os.read(reading, 100_000))
        os.close(reading)
        found = verify(tmp_path)
        assert found.findings == ()
        assert found.last >= max(before, acknowledged)
    append(tmp_path, "end")
    assert verify(tmp_path).findings == ()
