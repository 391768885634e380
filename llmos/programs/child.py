"""What every child does before and after its program: its place in the system, its log, its faults, its exit."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from llmos.abi.error import LlmosError, fault_of
from llmos.abi.frame import Failed, Job, Ready
from llmos.abi.redact import redact, redacted_fault, secrets_in
from llmos.abi.roots import restrict
from llmos.abi.stdio import LogOutput
from llmos.abi.upload import read_uploads_in
from llmos.nn.cpu import cpu_path
from llmos.programs.channel import DAEMON_GONE, Channel, Heartbeat
from llmos.programs.disk_full import room_said

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15


def be_child(channel_fd: int, log_fd: int, daemon_pid: int) -> NoReturn:
    """Run the assigned program, and exit with 0, or with 1 after reporting the fault."""
    # No session of its own: with autogroup scheduling, SCHED_IDLE yields only within a session.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the daemon's terminal is for the daemon
    _redirect(log_fd)
    _end_with(daemon_pid)
    channel = Channel(socket.socket(fileno=channel_fd))
    Heartbeat(channel, also=LogOutput.from_fd().reopen).start()
    code = _run(channel)
    with suppress(OSError):  # the log's disk may be full
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # not sys.exit: the zygote's state must not be torn down here


def _run(channel: Channel) -> int:
    secrets: tuple[str, ...] = ()
    try:
        assignment = channel.receive()
        assert isinstance(assignment, Job), f"the first frame is {type(assignment).__name__}"
        secrets = (*secrets_in(assignment.args), *filter(None, [assignment.row_key]))
        _name(f"llmos-{assignment.program}-{assignment.pid}")
        tempfile.tempdir = assignment.scratch  # the daemon removes it after a kill
        restrict(assignment.roots)
        read_uploads_in(assignment.uploads)
        cpu_path.use(assignment.cpu_kernels)
        program = import_module(assignment.main or f"llmos.programs.{assignment.program}")
        if not assignment.is_ready_when_it_says:
            channel.send(Ready())
        with room_said(Path(assignment.scratch)):
            program.main(channel, assignment)
    except LlmosError as error:
        channel.send(Failed(redacted_fault(fault_of(error), secrets)))  # before the log, whose disk may be full
        with suppress(OSError):
            print(redact(error.message, secrets), file=sys.stderr)  # the child's log
        return 1
    except BaseException as error:  # noqa: BLE001  # the top of a child: the failure becomes an event
        channel.send(Failed(redacted_fault(fault_of(error), secrets)))
        with suppress(OSError):
            print(redact(traceback.format_exc(), secrets), end="", file=sys.stderr)
        return 1
    return 0


def _redirect(log_fd: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(nothing)
    os.close(log_fd)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a real text stream in every child


def _end_with(daemon_pid: int) -> None:
    """Have the operating system kill this process, even if it is stopped, when its daemon ends."""
    between = os.getppid()
    if between != daemon_pid:
        try:
            watch = os.pidfd_open(between)
        except ProcessLookupError:
            pass
        else:
            # readable as soon as the forking process has ended, and the daemon is the parent
            select.select([watch], [], [])
            os.close(watch)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != daemon_pid:
        os._exit(DAEMON_GONE)


def _name(name: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
