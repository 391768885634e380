"""What the daemon tells systemd, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import closing

import pytest

from llmos.config import ServiceManager, take_service_manager
from llmos.notify import notify, notifying


@pytest.fixture
def listener(tmp_path):
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def test_it_says_that_it_is_ready_and_then_that_it_lives(listener):
    async def run():
        async with notifying(ServiceManager(listener.getsockname(), 0.01)):
            return [await asyncio.to_thread(listener.recv, 100) for _ in range(3)]

    assert asyncio.run(run()) == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


def test_without_a_watchdog_it_says_that_it_is_ready_and_that_it_stops(listener):
    async def run():
        async with notifying(ServiceManager(listener.getsockname())):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert [listener.recv(100) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]


def test_an_abstract_address_is_one_of_the_kernel_s():
    name = f"llmos-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(60)
        notify(ServiceManager(f"@{name}"), "STOPPING=1")
        assert sock.recv(100) == b"STOPPING=1"


def test_nobody_is_told_where_nobody_listens(tmp_path):
    notify(ServiceManager(), "READY=1")
    notify(ServiceManager(str(tmp_path / "gone")), "READY=1")


def test_what_systemd_says_is_taken_out_of_the_environment():
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    assert take_service_manager(environ) == ServiceManager("/run/x", 30.0)
    assert environ == {"A": "b"}


@pytest.mark.parametrize("more", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_a_watchdog_that_is_another_s_or_none_is_not_fed(more):
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", **more}
    assert take_service_manager(environ) == ServiceManager("/run/x")
