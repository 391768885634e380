"""A program's requests to the kernel: about the processes that it has started, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

from llmos.abi.error import error_of
from llmos.abi.frame import Act, ChildChanged, Replied, Requested
from llmos.abi.json_type import Json
from llmos.abi.process import Process
from llmos.programs.channel import Channel, Stopped

LOOK_EVERY_S = 1.0


class Children:
    """The children of this process, by pid, as the kernel last told them. A stop of this process raises Stopped."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ids = count(1)
        self.known: dict[int, Process] = {}

    def list(self) -> dict[int, Process]:
        """All that this process has started, in this life or an earlier one, and that the kernel remembers."""
        self._ask(Act.LIST)
        return dict(self.known)

    def submit(self, program: str, args: Mapping[str, Json], title: str = "") -> Process:
        """Start a program; raises what the kernel refuses it for."""
        return self._ask(Act.SUBMIT, program=program, args=dict(args), title=title)[0]

    def resume(self, pid: int, args: Mapping[str, Json] | None = None) -> Process:
        """Continue one, with these arguments changed."""
        return self._ask(Act.RESUME, pid=pid, args=dict(args or {}))[0]

    def kill(self, pid: int) -> Process:
        """Stop one, or give up an interrupted one."""
        return self._ask(Act.KILL, pid=pid)[0]

    def settle(self, args: Mapping[str, Json]) -> None:
        """Tell the kernel what this process has decided of its own arguments; it has noted that when this returns."""
        self._ask(Act.SETTLE, args=dict(args))

    def wait(self, pid: int, on_change: Callable[[Process], None] = lambda process: None) -> Process:
        """Wait until this process is interrupted or has exited."""
        while not self.known[pid].is_ended:
            if self._take_one(self._channel.receive(LOOK_EVERY_S)) == pid:
                on_change(self.known[pid])
        return self.known[pid]

    def _ask(
        self, act: Act, *, program: str = "", args: dict[str, Json] | None = None, title: str = "", pid: int = 0
    ) -> tuple[Process, ...]:
        request = Requested(next(self._ids), act, program, args or {}, title, pid)
        self._channel.send(request)
        while True:
            frame = self._channel.receive(LOOK_EVERY_S)
            if not (isinstance(frame, Replied) and frame.request_id == request.request_id):
                self._take_one(frame)
                continue
            if frame.fault is not None:
                raise error_of(frame.fault)
            self.known |= {process.pid: process for process in frame.processes}
            return frame.processes

    def _take_one(self, frame: object) -> int | None:
        """Note what a frame tells; returns the pid of the child that has changed."""
        if self._channel.stop_asked:
            raise Stopped
        if not isinstance(frame, ChildChanged):
            return None
        self.known[frame.process.pid] = frame.process
        return frame.process.pid
