"""The daemon's side of the zygote: starts it, asks it to fork children, and replaces it when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from llmos.abi.error import Internal, LlmosError, Unavailable
from llmos.home import MARK, is_stopped

DEATHS_TO_FAIL = 3  # after this many failed starts in a row, waiting requests fail
REPLY_BYTES = 4096
log = logging.getLogger(__name__)


@dataclass(slots=True)
class ForkRequest:
    """A requested child: its log, the daemon's end of its socket once it was requested, and the waiting future."""

    log: Path
    is_light: bool  # its program needs no torch
    reply: asyncio.Future[tuple[int, socket.socket]]
    channel: socket.socket | None = None


class Zygote:
    """Forks children. `is_warm` once the zygote has finished its imports; light children are forked before."""

    def __init__(self, engine: str, log_file: Path, mark: str) -> None:
        """`mark` is put into the children's environment, to recognize them."""
        self._engine = engine
        self._environ = {MARK: mark}
        self._log = log_file
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._requests: dict[int, ForkRequest] = {}
        self._numbers = count(1)
        self._deaths = 0
        self._is_closed = False
        self._sessions: set[int] = set()  # of all zygotes so far: their children stay in them
        self._silent_s = 0.0  # how long it has owed an answer, or was stopped
        self.is_warm = False

    @property
    def os_pid(self) -> int | None:
        return None if self._zygote is None else self._zygote.pid

    def start(self) -> None:
        """Start the zygote; it imports in the background. A failed start is repeated."""
        try:
            self._control = self._spawn()
        except OSError as error:  # no memory, no free pid, no folder for its log
            log.error("children cannot be forked: %s", error)
            self._on_death()
            return
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._read)
        for number, request in self._requests.items():
            self._ask(number, request)

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        command = [sys.executable, "-m", "llmos.programs.zygote", str(theirs.fileno()), str(os.getpid()), self._engine]
        try:
            with theirs, self._log.open("ab") as sink:
                self._zygote = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    env=os.environ | self._environ,
                )
        except OSError:
            ours.close()
            raise
        self._sessions.add(self._zygote.pid)
        return ours

    async def fork(self, log_file: Path, *, is_light: bool = False) -> tuple[int, socket.socket]:
        """Fork a child; returns its os_pid and the daemon's end of its socket; raises if that fails.

        One that `is_light` starts without torch in its memory.
        """
        if self._is_closed:
            raise Unavailable("The daemon is going down")
        number = next(self._numbers)
        reply: asyncio.Future[tuple[int, socket.socket]] = asyncio.get_running_loop().create_future()
        self._requests[number] = request = ForkRequest(log_file, is_light, reply)
        try:
            self._ask(number, request)
            return await reply
        except BaseException:
            if request.channel is not None:
                request.channel.close()  # a child that is forked nevertheless sees this and exits
            raise
        finally:
            self._requests.pop(number, None)

    def refuse(self) -> None:
        """Fail all waiting requests, because a stopped zygote may never answer."""
        self._is_closed = True
        self._disconnect()
        for request in self._requests.values():
            _refuse(request, Unavailable("The daemon is going down"))

    def close(self) -> None:
        """End the zygote."""
        self.refuse()
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()

    def is_ours(self, os_pid: int) -> bool:
        """Whether an orphan comes from our zygotes, and no fork is in progress that it could belong to."""
        try:
            return not self._requests and os_pid not in self._sessions and os.getsid(os_pid) in self._sessions
        except ProcessLookupError:
            return False

    def tick(self, elapsed_s: float, timeout_s: float) -> None:
        """Advance time: replace a zygote that was stopped or has not answered for too long.

        While it imports, which may take long, it answers nothing.
        """
        if self._zygote is None or self._zygote.returncode is not None:
            return
        is_silent = is_stopped(self._zygote.pid) or (self.is_warm and bool(self._requests))
        self._silent_s = self._silent_s + elapsed_s if is_silent else 0.0
        if 0 < timeout_s <= self._silent_s:
            self._silent_s = 0.0
            log.error("the zygote (pid %d) has not answered for %g s: another is started", self._zygote.pid, timeout_s)
            self._zygote.kill()  # its socket closes, and the next zygote gets its requests

    def reap(self) -> None:
        """Record the zygote's exit, if it has ended."""
        if self._zygote is not None:
            self._zygote.poll()

    def _ask(self, number: int, request: ForkRequest) -> None:
        if self._control is None:
            return  # the next zygote gets the requests at its start
        if request.channel is not None:
            request.channel.close()  # a child forked by a zygote that then died sees this and exits
        request.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        message = json.dumps({"request": number, "is_light": request.is_light}).encode()
        try:
            with theirs, request.log.open("ab") as sink:
                socket.send_fds(self._control, [message], [theirs.fileno(), sink.fileno()])
        except (BrokenPipeError, ConnectionResetError):
            pass  # it just died: _read notices, and asks the next one
        except BlockingIOError:
            _refuse(request, Unavailable("Too many processes start at once. Try again"))
        except OSError as error:
            _refuse(request, Unavailable(f"A process cannot be started: {request.log}: {error.strerror}"))

    def _read(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(REPLY_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            message = b""
        if not message:
            self._on_death()
            return
        self._silent_s = 0.0
        said = json.loads(message)
        if "warm" in said:
            self.is_warm, self._deaths = True, 0
            return
        request = self._requests.pop(said["request"], None)
        if request is None or request.reply.done():
            return  # the request was cancelled; its socket is closed, so the child exits
        if "error" in said:
            _refuse(request, Unavailable(said["error"]))
        else:
            assert request.channel is not None
            request.reply.set_result((said["os_pid"], request.channel))

    def _on_death(self) -> None:
        self._disconnect()
        self._deaths = 1 if self.is_warm else self._deaths + 1
        self.is_warm = False
        if self._deaths >= DEATHS_TO_FAIL:
            for request in self._requests.values():
                said = f"The process that children are forked from does not start. Its log: {self._log}"
                _refuse(request, Internal(said))
        if not self._is_closed:
            asyncio.get_running_loop().call_later(0.05 * 2 ** min(self._deaths, 8), self._start_again)

    def _start_again(self) -> None:
        if not self._is_closed:
            self.reap()
            self.start()

    def _disconnect(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None


def _refuse(request: ForkRequest, error: LlmosError) -> None:
    if not request.reply.done():
        request.reply.set_exception(error)
