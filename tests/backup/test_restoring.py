"""Restoring: the home is what it was, nothing is overwritten, and no daemon starts on half of one."""

from __future__ import annotations

import pytest
from homes import contents, freshen, processes, stocked_home, submit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killing import killed_along_the_way

from llmos.abi.error import Conflict, Corrupt
from llmos.abi.process import State
from llmos.backup.restoring import restore
from llmos.backup.taking import take
from llmos.daemon import holding_home
from llmos.kernel.file_modes import RESTORING
from llmos.kernel.store.store import Store


@pytest.fixture
def home(tmp_path):
    home = stocked_home(tmp_path / "home")
    submit(home, 7)
    freshen(home)
    return home


@pytest.mark.parametrize("name", ["bak", "bak.tar"])
def test_a_restored_home_is_what_it_was(tmp_path, home, name):
    take(home, tmp_path / name, lambda: freshen(home))
    restore(tmp_path / name, tmp_path / "new")
    before, after = contents(home), contents(tmp_path / "new")
    before.pop("journal.snapshot"), after.pop("journal.snapshot")  # without the pids of this machine
    audit = {one: after.pop(one)[0] for one in list(after) if one.startswith("audit")}
    assert b'"what":"restore"' in audit["audit/000000000001.log"]
    assert after == before
    store = Store(tmp_path / "new")
    assert store.resolve("mood").ref == "mood:2"
    assert store.examine().damages == ()
    (process,) = processes(tmp_path / "new")
    assert (process.pid, process.state, process.os_pid) == (7, State.STARTING, None)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_of_several_backups_the_newest_is_meant_or_the_one_that_is_named(tmp_path, home):
    first = take(home, tmp_path / "bak", lambda: freshen(home)).record
    Store(home).promote("mood:1")
    take(home, tmp_path / "bak", lambda: freshen(home))
    restore(tmp_path / "bak", tmp_path / "new")
    restore(tmp_path / "bak", tmp_path / "old", first.id)
    assert Store(tmp_path / "new").promoted("mood") == 1
    assert Store(tmp_path / "old").promoted("mood") == 2


def test_a_home_that_holds_something_is_left_alone_or_moved_aside(tmp_path, home):
    take(home, tmp_path / "bak", lambda: freshen(home))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear")
    with pytest.raises(Conflict):
        restore(tmp_path / "bak", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter"]
    done = restore(tmp_path / "bak", tmp_path / "full", is_forced=True)
    assert done.moved_to is not None
    assert (done.moved_to / "letter").read_text() == "dear"
    assert Store(tmp_path / "full").promoted("mood") == 2


def test_a_damaged_backup_is_not_restored_and_no_daemon_starts_on_it(tmp_path, home):
    record = take(home, tmp_path / "bak", lambda: freshen(home)).record
    blob = next(file for file in record.files if file.path.startswith("blobs/") and file.size_bytes)
    stored = tmp_path / "bak" / "objects" / blob.digest
    stored.chmod(0o600)
    stored.write_bytes(b"?" * blob.size_bytes)
    with pytest.raises(Corrupt):
        restore(tmp_path / "bak", tmp_path / "new")
    with pytest.raises(Conflict), holding_home(tmp_path / "new"):
        pass


def test_a_killed_restore_is_refused_by_the_daemon_and_can_be_repeated(tmp_path, home):
    take(home, tmp_path / "bak", lambda: freshen(home))
    new, whole = tmp_path / "new", contents(home).keys()
    for _ in killed_along_the_way(lambda: restore(tmp_path / "bak", new)):
        files = [path for path in new.rglob("*") if path.is_file() and path.name != "daemon.lock"]
        if all(path.name.startswith(".tmp-") for path in files) or (new / RESTORING).exists():
            continue  # nothing is there, or the daemon refuses it
        assert contents(new).keys() >= whole
        assert Store(new).examine().damages == ()
        break  # whole: the next restore would refuse to overwrite it
    assert contents(new).keys() >= whole


def test_another_backup_is_not_mixed_into_a_restore_that_was_broken_off(tmp_path, home):
    take(home, tmp_path / "bak", lambda: freshen(home))
    new = tmp_path / "new"
    new.mkdir()
    (new / RESTORING).write_text('{"id": "20200101T000000-000000"}')
    (new / "config.toml").write_text("port = 8602")
    with pytest.raises(Conflict):
        restore(tmp_path / "bak", new)
    restore(tmp_path / "bak", new, is_forced=True)
    assert not (new / RESTORING).exists()


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.from_regex(r"(asked|labelling|room/[a-c])/[a-z]{1,8}\.[a-z]{1,4}", fullmatch=True),
        st.tuples(st.binary(max_size=300), st.sampled_from([0o400, 0o600, 0o700])),
        max_size=8,
    )
)
def test_whatever_lies_in_a_home_comes_back_with_its_mode(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("any")
    home = folder / "home"
    for path, (data, mode) in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(data)
        (home / path).chmod(mode)
    home.mkdir(exist_ok=True)
    take(home, folder / "bak", lambda: freshen(home))
    restore(folder / "bak", folder / "new")
    after = contents(folder / "new")
    assert {path: after[path] for path in files} == files
