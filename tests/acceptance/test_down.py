"""`llmos down` whatever became of the home's files and of the children: it ends all of them, and leaves no orphan."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace

import pytest
from conftest import House, family, free_port, is_alive
from stock import encoder, stocked

from llmos.abi.process import State
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base

pytestmark = pytest.mark.acceptance

GRACE = {"LLMOS_STOP_GRACE_S": "3600"}  # who waited for all of it would never be done
NULL = {"LLMOS_ENGINE": "null", **GRACE}
DOWN = "llmos is down.\n"


@contextmanager
def ending(house):
    """The daemon and all that descends from it: at the end none of them is there."""
    found = family(house)
    yield found
    assert [process for process in found if is_alive(process)] == []


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def small_disk(tmp_path):
    """A home on a file system of its own."""
    home = tmp_path / "small"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "llmos-test", str(home)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root and a kernel that permits it")
    yield home
    subprocess.run(["umount", "-l", str(home)], check=True)


def up(home):
    """A daemon of the null engine that serves a base."""
    house = House(home, free_port())
    add_base(Store(home))
    started = house("up", **NULL)
    assert started.returncode == 0, started.stderr
    with house.client() as box:
        assert box.run("tiny", "hello", task="embed").vector
    return house


@pytest.mark.parametrize("damage", ["garbled", "of another process", "home moved"])
def test_down_needs_no_daemon_json_and_no_home_where_it_was(home, tmp_path, damage):
    house = up(home)
    path = home / "daemon.json"
    with ending(house):
        match damage:
            case "garbled":
                path.write_bytes(b"\0{")
            case "of another process":
                path.write_text(f'{{"os_pid": {os.getpid()}, "url": "http://127.0.0.1:1"}}')
            case _:
                house = replace(house, home=home.rename(tmp_path / "moved"))
        done = house("down", **NULL)
        assert (done.returncode, done.stdout) == (0, DOWN), done.stderr
    assert house("down", **NULL).stdout == "No daemon is up.\n"


def test_down_ends_a_daemon_that_had_no_room_to_say_where_it_is(small_disk):
    house = up(small_disk)
    assert house("down", **NULL).returncode == 0
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    started = house("up", **NULL)
    assert started.returncode == 0, started.stderr
    assert not (small_disk / "daemon.json").exists()
    with ending(house):
        done = house("down", **NULL)
        assert (done.returncode, done.stdout) == (0, DOWN), done.stderr


def test_down_ends_real_processes_that_signals_have_stopped_within_its_grace(home, tmp_path):
    pytest.importorskip("torch")
    settings = stocked(tmp_path, encoder(tmp_path / "model")).settings | GRACE
    house = House(home, free_port())
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"parcel {i} was {('late', 'kind')[i % 2]},{i % 2}\n" for i in range(400)))
    assert house("up", **settings).returncode == 0
    assert house("pull", "tiny", **settings).returncode == 0
    with house.client() as box:
        assert box.run("tiny", "hello").vector
        pid = box.train("classify", data=rows, base="tiny", name="endless", epochs=1000, batch_size=4, wait=False).pid
        for stream_event in box.watch(pid):
            process = stream_event.process
            if process is not None and process.progress is not None and process.progress.phase == "train":
                break
        with ending(house) as found:
            daemon = box.status().os_pid
            for process in found:
                if process.pid != daemon:
                    process.suspend()
            done = house("down", **settings)
            assert (done.returncode, done.stdout) == (0, DOWN), done.stderr
    assert house("up", **settings).returncode == 0
    try:
        with house.client() as box:
            assert box.process(pid).state is State.INTERRUPTED
            box.kill(pid)
    finally:
        house("down", **settings)
