"""The zygote: light children start without what the full zygote has imported, and both zygotes end together."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from llmos.abi.frame import Job, Report
from llmos.abi.process import Program, Spec
from llmos.abi.wire import Splitter, encode
from llmos.home import OsProcess
from llmos.kernel.children.supervisor import PR_SET_CHILD_SUBREAPER
from llmos.kernel.children.zygote import Zygote
from llmos.kernel.programs import declarations

HERE = Path(__file__).parent
FULL_ONLY = "llmos.engines.null"  # the full zygote of the null engine imports it
PATIENCE_S = 60.0


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder for logs; children find the module of their main."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # as the daemon does
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
    return tmp_path


def with_zygote(home: Path, act: Callable[[Zygote], Awaitable[None]]) -> None:
    async def main() -> None:
        zygote = Zygote("null", home / "zygote.log", "")
        zygote.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await act(zygote)
        finally:
            zygote.close()

    asyncio.run(main())


async def child_of(zygote: Zygote, home: Path, *, is_light: bool) -> list[str]:
    """What a child says: its parent, and which modules it started with."""
    os_pid, sock = await zygote.fork(home / "child.log", is_light=is_light)
    sock.setblocking(False)
    args = {"modules": [FULL_ONLY, "llmos.programs.import_data", "torch"]}
    try:
        with OsProcess(os_pid) as child:
            said = await report_on(sock, Job(1, Program("report"), args, str(home), main="reporting_child"))
            sock.close()
            assert await asyncio.to_thread(child.has_ended, PATIENCE_S)
        await asyncio.to_thread(os.waitpid, os_pid, 0)
    finally:
        sock.close()
    return said


async def report_on(sock: socket.socket, job: Job) -> list[str]:
    loop, splitter = asyncio.get_running_loop(), Splitter()
    await loop.sock_sendall(sock, encode(job))
    while data := await loop.sock_recv(sock, 1 << 16):
        for frame in splitter.feed(data):
            if isinstance(frame, Report):
                return frame.progress.message.split()
    raise AssertionError((job.scratch, "it ended without a report"))


def full_zygote(zygote: Zygote) -> psutil.Process:
    """The process that the light one forked before it forked any child."""
    (full,) = psutil.Process(zygote.os_pid).children()
    return full


def test_a_light_child_starts_without_what_the_full_zygote_has_imported(home):
    async def act(zygote: Zygote) -> None:
        _, *light = await child_of(zygote, home, is_light=True)
        _, *full = await child_of(zygote, home, is_light=False)
        assert (light, full) == (["llmos.programs.import_data"], [FULL_ONLY])
        assert zygote.is_warm

    with_zygote(home, act)


def test_light_children_start_though_the_full_zygote_stands_still(home):
    async def act(zygote: Zygote) -> None:
        await child_of(zygote, home, is_light=True)
        full = full_zygote(zygote)
        full.send_signal(signal.SIGSTOP)
        waiting = asyncio.ensure_future(child_of(zygote, home, is_light=False))
        assert (await child_of(zygote, home, is_light=True))[1:] == ["llmos.programs.import_data"]
        full.send_signal(signal.SIGCONT)
        assert (await waiting)[1:] == [FULL_ONLY]

    with_zygote(home, act)


@pytest.mark.parametrize("dying", ["light", "full"])
def test_when_one_zygote_dies_both_are_made_again_and_requests_are_kept(home, dying):
    async def act(zygote: Zygote) -> None:
        assert (await child_of(zygote, home, is_light=False))[1:] == [FULL_ONLY]
        full, light = full_zygote(zygote), zygote.os_pid
        assert light is not None
        full.send_signal(signal.SIGSTOP)
        waiting = asyncio.ensure_future(child_of(zygote, home, is_light=False))
        with OsProcess(light) as first, OsProcess(full.pid) as second:
            os.kill(light if dying == "light" else full.pid, signal.SIGKILL)
            assert (await waiting)[1:] == [FULL_ONLY]
            assert await asyncio.to_thread(first.has_ended, PATIENCE_S)
            assert await asyncio.to_thread(second.has_ended, PATIENCE_S)
        assert zygote.os_pid != light
        assert (await child_of(zygote, home, is_light=True))[1:] == ["llmos.programs.import_data"]

    with_zygote(home, act)


def test_programs_on_rows_are_light_and_those_that_train_or_serve_are_not():
    light = {name for name, one in declarations().items() if one.is_light(Spec(Program(name), {}))}
    assert light >= {"import-data", "split-data", "merge-data", "export-data", "check-data", "augment-data"}
    assert not light & {"train", "serve", "evaluate", "quantize", "probe"}
    for name in ("check-data", "augment-data"):
        assert not declarations()[name].is_light(Spec(Program(name), {"base": "minilm:1"}))
