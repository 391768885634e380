"""The daemon's end of the zygote: it starts it, asks it for children, and starts another when it has died."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from llmos.abi.error import Internal, Unavailable

DEATHS_TO_FAIL = 3  # so many deaths in a row before it was ever warm, and nobody waits for it any longer
REPLY_BYTES = 4096


@dataclass(slots=True)
class Request:
    """One child asked for: its log, the daemon's end of its socket once the zygote was asked, and who waits."""

    log: Path
    reply: asyncio.Future[tuple[int, socket.socket]]
    channel: socket.socket | None = None


class Nursery:
    """Forks children. `is_warm` once the zygote has finished its imports."""

    def __init__(self, engine: str, log: Path) -> None:
        self._engine = engine
        self._log = log
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._requests: dict[int, Request] = {}
        self._numbers = count(1)
        self._deaths = 0
        self._is_closed = False
        self.is_warm = False

    @property
    def os_pid(self) -> int | None:
        return None if self._zygote is None else self._zygote.pid

    def start(self) -> None:
        """Start the zygote; it imports while the daemon goes on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        command = [sys.executable, "-m", "llmos.programs.zygote", str(theirs.fileno()), str(os.getpid()), self._engine]
        with theirs, self._log.open("ab") as log:
            self._zygote = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._control = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read)
        for number, request in self._requests.items():
            self._ask(number, request)

    async def fork(self, log: Path) -> tuple[int, socket.socket]:
        """A new child: its os_pid and the daemon's end of its socket; raises if no child can be had."""
        number = next(self._numbers)
        reply: asyncio.Future[tuple[int, socket.socket]] = asyncio.get_running_loop().create_future()
        self._requests[number] = request = Request(log, reply)
        try:
            self._ask(number, request)
            return await reply
        finally:
            self._requests.pop(number, None)

    def close(self) -> None:
        """Let the zygote go; it ends as its socket closes."""
        self._is_closed = True
        self._disconnect()
        for request in self._requests.values():
            if not request.reply.done():
                request.reply.set_exception(Unavailable("The daemon is going down"))
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()

    def reap(self) -> None:
        """Take note if the zygote is the child that has ended."""
        if self._zygote is not None:
            self._zygote.poll()

    def _ask(self, number: int, request: Request) -> None:
        if self._control is None:
            return  # the next zygote is asked as it starts
        if request.channel is not None:
            request.channel.close()  # a child forked for it by a zygote that then died sees this and ends
        request.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, request.log.open("ab") as log:
            message = json.dumps({"request": number}).encode()
            try:
                socket.send_fds(self._control, [message], [theirs.fileno(), log.fileno()])
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has just died: _read sees the same, and asks the next one
            except BlockingIOError:
                request.reply.set_exception(Unavailable("Too many processes start at once. Try again"))

    def _read(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(REPLY_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            message = b""
        if not message:
            self._died()
            return
        said = json.loads(message)
        if "warm" in said:
            self.is_warm, self._deaths = True, 0
            return
        request = self._requests.pop(said["request"], None)
        if request is None or request.reply.done():
            if request is not None and request.channel is not None:
                request.channel.close()
        elif "error" in said:
            request.reply.set_exception(Unavailable(said["error"]))
        else:
            assert request.channel is not None
            request.reply.set_result((said["os_pid"], request.channel))

    def _died(self) -> None:
        self._disconnect()
        self._deaths = 1 if self.is_warm else self._deaths + 1
        self.is_warm = False
        if self._deaths >= DEATHS_TO_FAIL:
            for request in self._requests.values():
                if not request.reply.done():
                    request.reply.set_exception(
                        Internal(f"The process that children are forked from does not start. Its log: {self._log}")
                    )
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
