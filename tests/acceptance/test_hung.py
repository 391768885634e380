"""A serve process that a signal has stopped, and one whose loop stands still: `ps` says so, and another answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import House, free_port

from llmos.kernel.store.store import Store
from llmos.testing.models import add_base

pytestmark = pytest.mark.acceptance

HELD_STILL = """
import ctypes, os, sys
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
pid, libc = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
if libc.ptrace(SEIZE, pid, None, None) or libc.ptrace(INTERRUPT, pid, None, None):
    sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(pid, WALL)
print("held", flush=True)
while True:  # until it has been killed
    _, status = os.waitpid(pid, WALL)
    if os.WIFEXITED(status) or os.WIFSIGNALED(status):
        break
"""
TEXTS = ["where is my parcel", "it never came", "thank you"]
SETTINGS = {"LLMOS_ENGINE": "null", "LLMOS_HEARTBEAT_TIMEOUT_S": "10"}


@pytest.fixture
def house(tmp_path):
    """A daemon that serves two bases, each by a process of its own."""
    home = tmp_path / "home"
    home.mkdir()
    house = House(home, free_port())
    for number, name in enumerate(("stopped", "hung")):
        add_base(Store(home), name, floats=16 + number, pid=900_001 + number)
    assert house("up", **SETTINGS).returncode == 0
    yield house
    house("down", **SETTINGS)


def ask(house, name, text):
    with house.client() as box:
        return box.run(name, text, task="embed", timeout_s=110).vector


def serving(house, name):
    with house.client() as box:
        (found,) = [process for process in box.processes() if process.spec.title.startswith(f"serve {name}:1")]
    return found


def test_both_are_said_not_to_respond_and_their_callers_are_answered_by_the_next(house):
    before = {name: [ask(house, name, text) for text in TEXTS] for name in ("stopped", "hung")}
    first = {name: serving(house, name) for name in before}
    command = [sys.executable, "-c", HELD_STILL, str(first["hung"].os_pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        if holder.stdout.readline() != "held\n":
            pytest.skip(f"no thread can be held still here: {holder.communicate()[1]}")
        os.kill(first["stopped"].os_pid, signal.SIGSTOP)
        with ThreadPoolExecutor(6) as pool:
            asked = {name: [pool.submit(ask, house, name, text) for text in TEXTS] for name in before}
            said = ""
            while said.count("ready, not responding for") < len(first):
                assert not any(one.done() for calls in asked.values() for one in calls), "answered, and never said"
                said = house("ps", **SETTINGS).stdout
            assert {name: [one.result() for one in calls] for name, calls in asked.items()} == before
        assert holder.wait(60) == 0
    for name, old in first.items():
        now = serving(house, name)
        assert (now.pid, now.restarts, now.unresponsive_since) == (old.pid, 1, None)
        assert now.os_pid != old.os_pid
    assert "not responding" not in house("ps", **SETTINGS).stdout
