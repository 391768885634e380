"""Whose a process is: the daemon of a home by its lock, its children by their mark, and what an ended one left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_daemon import free_port

from llmos import Client
from llmos.abi.error import LlmosError
from llmos.home import (
    MARK,
    OsProcess,
    children_of,
    config_of,
    daemon_of,
    end_children,
    end_orphans,
    is_daemon,
    is_stopped,
    launch_of,
    mark,
    orphans_of,
    state_of,
)
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base

pytestmark = pytest.mark.slow

MAIN = "from llmos.cli.main import main; main()"
SLEEPER = [sys.executable, "-c", "import signal; print('there', flush=True); signal.pause()"]
FORKING = """
import fcntl, os, signal, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
if not (fork := os.fork()):
    signal.pause()
print(fork, flush=True)
signal.pause()
"""
CLOSING = """
import fcntl, os, signal, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
reading, writing = os.pipe()
if not (fork := os.fork()):
    os.closerange(3, 64)  # the lock first, and the pipe after it
    signal.pause()
os.close(writing)
os.read(reading, 1)
print(fork, flush=True)
signal.pause()
"""
PATIENCE_S = 120.0  # of a test that would otherwise wait for ever


@contextmanager
def up(home: Path, port: int, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon of the null engine on this home, as `llmos up` starts it; killed at the end, if it is there still."""
    reading, writing = os.pipe()
    words = [f"--home={home}", f"--port={port}", "--engine=null", "--stop-grace-s=3600", f"--ready-fd={writing}"]
    environ = {"LLMOS_HOME": "/nowhere", **environ}
    command = [sys.executable, "-m", "llmos.daemon", *words]
    with (
        os.fdopen(reading, "rb") as ready,
        subprocess.Popen(command, env=os.environ | environ, pass_fds=(writing,)) as daemon,
    ):
        os.close(writing)
        assert json.loads(ready.readline())["os_pid"] == daemon.pid
        try:
            yield daemon
        finally:
            daemon.kill()


def await_folder(folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not folder.is_dir():
        assert time.monotonic() < deadline, f"{folder} was not made"
        os.sched_yield()


def llmos(home: Path, port: int, *words: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"LLMOS_HOME": str(home), "LLMOS_PORT": str(port)}
    command = [sys.executable, "-c", MAIN, *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def found(home: Path) -> int | None:
    daemon = daemon_of(home)
    if daemon is None:
        return None
    daemon.close()
    return daemon.os_pid


@contextmanager
def sleeper(**environ: str) -> Iterator[subprocess.Popen[str]]:
    """A process that does nothing, with this in its environment."""
    with subprocess.Popen(SLEEPER, env=os.environ | environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()


def ended_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def test_the_daemon_of_a_home_is_found_whatever_became_of_its_files(tmp_path):
    home, moved = tmp_path / "home", tmp_path / "moved"
    home.mkdir()
    with up(home, free_port()) as daemon:
        assert found(home) == daemon.pid
        (home / "daemon.json").write_text("{garbled")
        assert found(home) == daemon.pid
        (home / "daemon.json").unlink()
        assert found(home) == daemon.pid
        assert found(tmp_path) is None
        home.rename(moved)
        assert found(moved) == found(home) == daemon.pid
        (moved / "daemon.lock").unlink()
        assert found(home) == daemon.pid


def test_of_two_daemons_of_one_name_each_is_that_of_where_its_home_lies_now(tmp_path):
    home, moved = tmp_path / "home", tmp_path / "moved"
    home.mkdir()
    with up(home, free_port()) as first:
        await_folder(home / "scratch")  # which its first process makes, at the old place if the home is moved before
        home.rename(moved)
        home.mkdir()
        with up(home, free_port()) as second:
            assert (found(home), found(moved)) == (second.pid, first.pid)
        assert second.returncode is not None
        assert (found(home), found(moved)) == (None, first.pid)


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_fork_that_outlives_its_daemon_is_not_taken_for_it(tmp_path, is_deleted):
    lock = tmp_path / "daemon.lock"
    words = [sys.executable, "-c", FORKING, str(lock), "-m", "llmos.daemon", f"--home={tmp_path}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        fork = int(daemon.stdout.readline())
        try:
            if is_deleted:
                lock.unlink()
            assert found(tmp_path) == daemon.pid
            daemon.kill()
            daemon.wait(PATIENCE_S)
            assert is_daemon(fork)
            assert found(tmp_path) is None
        finally:
            os.kill(fork, signal.SIGKILL)
            daemon.kill()


def test_a_fork_that_has_closed_its_files_is_not_the_daemon_of_the_old_folder(tmp_path):
    home, moved = tmp_path / "home", tmp_path / "moved"
    for folder in (home, moved):
        folder.mkdir()
    (home / "daemon.lock").touch()
    words = [sys.executable, "-c", CLOSING, str(moved / "daemon.lock"), "-m", "llmos.daemon", f"--home={home}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        fork = int(daemon.stdout.readline())
        try:
            assert is_daemon(fork)
            assert (found(home), found(moved)) == (None, daemon.pid)
        finally:
            os.kill(fork, signal.SIGKILL)
            daemon.kill()


def test_a_daemon_is_known_with_the_settings_it_was_started_with(tmp_path):
    port = free_port()
    with up(tmp_path, port, LLMOS_CALL_TIMEOUT_S="7") as daemon:
        config = config_of(daemon.pid)
        assert config is not None
        assert (config.home, config.port, config.stop_grace_s, config.call_timeout_s) == (tmp_path, port, 3600, 7)
    assert not is_daemon(os.getpid())


def test_a_recorded_pid_that_is_another_process_by_now_is_left_alone(tmp_path):
    with sleeper() as stranger:
        (tmp_path / "daemon.json").write_text(json.dumps({"os_pid": stranger.pid, "url": "http://127.0.0.1:1"}))
        (tmp_path / "daemon.lock").touch()
        done = llmos(tmp_path, free_port(), "down")
        assert (done.returncode, done.stdout) == (0, "No daemon is up.\n")
        assert stranger.poll() is None


def test_down_ends_a_daemon_that_does_nothing_and_says_so(tmp_path):
    with up(tmp_path, port := free_port()) as daemon:
        daemon.send_signal(signal.SIGSTOP)
        (tmp_path / "daemon.json").unlink()
        done = llmos(tmp_path, port, "down")
        assert (done.returncode, done.stdout) == (0, "llmos is down.\n"), done.stderr
        assert daemon.wait(PATIENCE_S) == 0
    assert children_of(tmp_path) == []


def test_a_verb_that_asks_a_stopped_daemon_ends_with_the_way_out(tmp_path):
    with up(tmp_path, port := free_port()) as daemon:
        daemon.send_signal(signal.SIGSTOP)
        done = llmos(tmp_path, port, "ps")
        assert done.returncode == 3
        assert f"(pid {daemon.pid}) was stopped by a signal" in done.stderr
        assert "llmos down" in done.stderr
        assert llmos(tmp_path, port, "down").returncode == 0


@pytest.mark.parametrize("stopped", ["serve", "zygote", "both"])
def test_down_waits_for_no_grace_where_processes_were_only_stopped_and_leaves_none(tmp_path, stopped):
    add_base(Store(tmp_path))
    with up(tmp_path, port := free_port()) as daemon, Client(f"http://127.0.0.1:{port}") as box:
        box.run("tiny", "hello", task="embed")
        (serve,) = [process.os_pid for process in box.processes() if process.spec.program == "serve"]
        children = children_of(tmp_path)
        assert serve in children
        (zygote,) = [one for one in children if os.getsid(one) == one]
        for os_pid in {"serve": [serve], "zygote": [zygote], "both": [serve, zygote]}[stopped]:
            os.kill(os_pid, signal.SIGSTOP)
        done = llmos(tmp_path, port, "down")
        assert (done.returncode, done.stdout) == (0, "llmos is down.\n"), done.stderr
        assert daemon.wait(PATIENCE_S) == 0
    assert children_of(tmp_path) == []


def test_down_does_not_wait_for_a_process_that_a_stopped_zygote_was_to_fork(tmp_path):
    add_base(Store(tmp_path))
    with up(tmp_path, port := free_port()), Client(f"http://127.0.0.1:{port}") as box, ThreadPoolExecutor(1) as pool:
        while not (zygotes := [one for one in children_of(tmp_path) if os.getsid(one) == one]):
            box.status()  # the daemon answers before it has its zygote
        os.kill(zygotes[0], signal.SIGSTOP)
        asked = pool.submit(box.run, "tiny", "hello", task="embed")
        while box.status().processes.get("starting", 0) == 0:
            assert not asked.done()
        done = llmos(tmp_path, port, "down")
        assert (done.returncode, done.stdout) == (0, "llmos is down.\n"), done.stderr
        with pytest.raises(LlmosError):
            asked.result(PATIENCE_S)
    assert children_of(tmp_path) == []


def test_what_a_killed_daemon_left_is_ended_by_the_next_down(tmp_path):
    add_base(Store(tmp_path))
    with up(tmp_path, port := free_port()) as daemon, Client(f"http://127.0.0.1:{port}") as box:
        box.run("tiny", "hello", task="embed")
        held = [OsProcess(os_pid) for os_pid in children_of(tmp_path)]
        assert len(held) >= 2
        for process in held:
            process.signal(signal.SIGSTOP)
        daemon.kill()
        for process in held:
            assert process.has_ended(PATIENCE_S), "it ends with its daemon, stopped or not"
            process.close()
    with sleeper(**{MARK: f"{daemon.pid}:{tmp_path}"}) as left:
        left.send_signal(signal.SIGSTOP)
        done = llmos(tmp_path, port, "down")
        assert (done.returncode, "ended now: 1" in done.stdout) == (0, True)
        assert left.wait(PATIENCE_S) == -signal.SIGKILL


def test_only_what_ended_daemons_of_this_home_have_left_is_ended(tmp_path):
    dead = ended_pid()
    with (
        sleeper(**{MARK: f"{dead}:{tmp_path}"}) as orphan,
        sleeper(**{MARK: f"{dead}:{tmp_path}-2"}) as another,
        sleeper(**{MARK: mark(tmp_path)}) as child,
        sleeper(**{MARK: "no number"}) as stranger,
    ):
        assert orphans_of(tmp_path) == [orphan.pid]
        assert end_orphans(tmp_path) == 1
        assert orphan.wait(PATIENCE_S) == -signal.SIGKILL
        assert [one.poll() for one in (another, child, stranger)] == [None, None, None]
        assert sorted(children_of(tmp_path)) == [child.pid]
        assert end_children(os.getpid(), tmp_path) == 1
        assert child.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_process_that_has_ended_is_held_and_its_number_means_nothing_any_more():
    with sleeper() as process:
        held = OsProcess(process.pid)
        assert not held.has_ended()
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert (state_of(process.pid), is_stopped(process.pid)) == ("T", True)
        process.kill()
        assert held.has_ended(PATIENCE_S)
        process.wait()
        held.signal(signal.SIGKILL)
        held.close()
    assert state_of(process.pid) == ""
    with pytest.raises(ProcessLookupError):
        OsProcess(process.pid)


def test_how_a_daemon_was_started_is_read_from_it_without_what_is_of_one_start():
    words = ["-m", "llmos.daemon", "--port=9001", "--ready-fd", "5", "--restore", "--log-level=debug"]
    environ = {**os.environ, "LLMOS_ENGINE": "null", "HF_TOKEN": "x", "OTEL_SERVICE_NAME": "z", "NOT_OURS": "y"}
    command = [sys.executable, "-c", "print(flush=True); input()", *words]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # so it runs its program
        launch = launch_of(process.pid)
        process.communicate(b"\n", timeout=60)
    assert launch.words == ("--port=9001", "--log-level=debug")
    names = ("LLMOS_ENGINE", "HF_TOKEN", "OTEL_SERVICE_NAME")
    assert [launch.environ[name] for name in names] == ["null", "x", "z"]
    assert not {"NOT_OURS", "PATH"} & launch.environ.keys()
    assert launch.is_service is False


@pytest.mark.parametrize("name", ["SYSTEMD_EXEC_PID", "WATCHDOG_PID"])
def test_a_daemon_whose_pid_systemd_told_it_is_a_service(name):
    code = f"import os, sys; os.environ[{name!r}] = str(os.getpid()); os.execv(sys.executable, sys.argv[1:])"
    program = [sys.executable, "-c", "print(flush=True); input()"]
    command = [sys.executable, "-c", code, *program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert launch_of(process.pid).is_service
        process.communicate(b"\n", timeout=60)
