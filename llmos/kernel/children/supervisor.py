"""The supervisor: forks, signals, schedules and reaps children, posts what they report, and finds those that hang."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import mmap
import os
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from llmos.abi.error import Cancelled, LlmosError
from llmos.abi.frame import (
    AttachFailed,
    Beat,
    CallsWanted,
    Chunks,
    Computed,
    DriftFound,
    FromChild,
    ModelAsked,
    Ready,
    Requested,
    RouteCalled,
    TakenIn,
    TakesIn,
    ToChild,
)
from llmos.abi.note import open_note, read
from llmos.abi.process import Priority, Process, State
from llmos.abi.wire import Splitter, encode
from llmos.kernel import events as ev
from llmos.kernel.calls.router import Router
from llmos.kernel.children.zygote import Zygote
from llmos.kernel.events import Event
from llmos.kernel.processes.child_events import is_own_fault
from llmos.kernel.processes.process_runtime import ALIVE
from llmos.kernel.programs import traits_of

PR_SET_CHILD_SUBREAPER = 36
LAST_WORDS_S = 1.0  # how long an ended child's socket may be kept open by others
log = logging.getLogger(__name__)
POLICY = {Priority.INTERACTIVE: os.SCHED_OTHER, Priority.BATCH: os.SCHED_BATCH, Priority.BACKGROUND: os.SCHED_IDLE}


@dataclass(slots=True)
class Child:
    """One living child. It is over when its connection has ended and its exit code is known."""

    pid: int
    os_pid: int
    line: asyncio.Transport | None = None
    unsent: list[bytes] = field(default_factory=list)
    code: int | None = None
    ready_at: float | None = None  # monotonic
    note: mmap.mmap | None = None  # of a serve process: the calls that it is taking in


class Supervisor:
    """All children. From `start` on, their frames are posted as events, and their exits after their last frame."""

    _router: Router
    _post: Callable[[ev.Event], None]
    _asked: Callable[[int, Requested | RouteCalled | CallsWanted | ModelAsked | DriftFound], None]

    def __init__(
        self,
        zygote: Zygote,
        heartbeats: Heartbeats,
        *,
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self.zygote = zygote
        self._heartbeats = heartbeats
        self._clock = clock
        self._steady = steady
        self._children: dict[int, Child] = {}
        self._births: dict[int, asyncio.Task[tuple[int, socket.socket]]] = {}
        self._strays: set[int] = set()  # orphaned grandchildren, as of the last tick

    def start(
        self,
        router: Router,
        post: Callable[[ev.Event], None],
        asked: Callable[[int, Requested | RouteCalled | CallsWanted | ModelAsked | DriftFound], None],
    ) -> None:
        """Become the parent of every orphaned descendant, and watch for exits.

        Chunks of calls go to the router, requests to `asked`; all other events are posted.
        """
        self._router, self._post, self._asked = router, post, asked
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    async def fork(self, pid: int, log: Path, priority: Priority, *, is_light: bool = False) -> tuple[int, float]:
        """Fork a child for this process, without torch if it `is_light`; returns its os_pid and start time."""
        forking = self.zygote.fork(log, is_light=is_light)
        self._births[pid] = birth = asyncio.get_running_loop().create_task(forking)
        try:
            os_pid, sock = await birth
        except asyncio.CancelledError:
            raise Cancelled("It was ended before its operating system process had started") from None
        finally:
            del self._births[pid]
        child = self._children[pid] = Child(pid, os_pid)
        born_at = start_time(os_pid) or 0.0
        schedule(os_pid, priority)
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: ChildProtocol(self, child), sock=sock)
        self._reap()  # it may have ended before it was recorded here
        return os_pid, born_at

    def send(self, pid: int, frame: ToChild) -> None:
        """Send a frame to a child; it is dropped if the child has gone, whose exit is then on its way."""
        child = self._children.get(pid)
        if child is not None and child.line is not None:
            child.unsent.append(encode(frame))
            if len(child.unsent) == 1:  # further frames of this turn of the event loop are sent with it
                asyncio.get_running_loop().call_soon(_flush, child)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a child, if it exists. SIGKILL also cancels one that is still being forked."""
        if number == signal.SIGKILL and pid in self._births:
            self._births[pid].cancel()
        child = self._children.get(pid)
        if child is not None and child.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.os_pid, number)

    def renice(self, pid: int, priority: Priority) -> bool:
        """Set a child's scheduling priority, if it exists; False if the operating system refuses."""
        child = self._children.get(pid)
        return child is None or child.code is not None or schedule(child.os_pid, priority)

    def tick(self, elapsed_s: float, timeout_s: float) -> None:
        """Advance time: replace a silent zygote, and kill orphaned grandchildren."""
        self.zygote.tick(elapsed_s, timeout_s)
        known = {child.os_pid for child in self._children.values()}
        strays = {os_pid for os_pid in own_children() if os_pid not in known and self.zygote.is_ours(os_pid)}
        for os_pid in strays & self._strays:  # seen at two ticks, so it was not forked just now
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(os_pid, signal.SIGKILL)
                os.waitpid(os_pid, os.WNOHANG)
        self._strays = strays

    def close(self) -> None:
        """Kill all remaining children."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        for child in self._children.values():
            if child.code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.os_pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.os_pid, 0)
            if child.line is not None:
                child.line.abort()
        self._children.clear()
        self.zygote.close()

    def hear(self, child: Child, frame: FromChild) -> None:
        """Handle a child's frame: chunks go straight to the router, reports are posted as events."""
        pid, now = child.pid, self._clock()
        self._heartbeats.hear(pid, frame)
        match frame:
            case Chunks(chunks):
                self._router.answered(chunks)
            case Computed(call_id, share):
                self._router.computed(call_id, share)
            case TakenIn(call_id):
                self._router.taken_in(call_id)
            case Requested() | RouteCalled() | CallsWanted() | ModelAsked() | DriftFound():
                self._asked(pid, frame)
            case TakesIn(os_pid, fd):
                _open_note(child, os_pid, fd)
            case AttachFailed(model, fault):
                self._router.attach_failed(pid, model, fault)
                self._post(ev.Detached(now, pid, model))
            case _:
                if isinstance(frame, Ready):
                    child.ready_at = self._steady()
                if (event := ev.reported_event(now, pid, frame)) is not None:
                    self._post(event)

    def line_ended(self, child: Child) -> None:
        child.line = None
        self._bury(child)

    def _reap(self) -> None:
        self.zygote.reap()
        for child in list(self._children.values()):
            if child.code is not None:
                continue
            try:
                ended, status = os.waitpid(child.os_pid, os.WNOHANG)
            except ChildProcessError:  # not ours yet: the intermediate parent is exiting, and another SIGCHLD follows
                ended, status = (0, 0) if psutil.pid_exists(child.os_pid) else (child.os_pid, 1 << 8)
            if ended:
                child.code = os.waitstatus_to_exitcode(status)
                self._bury(child)

    def _bury(self, child: Child) -> None:
        if child.code is None:
            return
        if child.line is not None:
            asyncio.get_running_loop().call_later(LAST_WORDS_S, child.line.abort)
            return
        if self._children.get(child.pid) is child:
            del self._children[child.pid]
            taking_in = () if child.note is None or not is_own_fault(child.code) else read(child.note)
            ready_s = None if child.ready_at is None else self._steady() - child.ready_at
            self._post(
                ev.ChildExited(self._clock(), child.pid, child.os_pid, child.code, ready_s=ready_s, taking_in=taking_in)
            )


class ChildProtocol(asyncio.Protocol):
    """The daemon's end of one child's socket."""

    def __init__(self, supervisor: Supervisor, child: Child) -> None:
        self._supervisor = supervisor
        self._child = child
        self._splitter = Splitter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._child.line = transport

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._splitter.feed(data)
        except LlmosError:  # undecodable data: it is not a child of this version
            self._supervisor.signal(self._child.pid, signal.SIGKILL)
            return
        for frame in frames:
            self._supervisor.hear(self._child, frame)  # type: ignore[arg-type]  # a child sends Up frames only

    def connection_lost(self, error: Exception | None) -> None:
        self._supervisor.line_ended(self._child)


def _open_note(child: Child, os_pid: int, fd: int) -> None:
    try:
        child.note = open_note(os_pid, fd)
    except OSError as error:  # it ends without a note: its calls are sent again, as after any crash
        log.warning("the note of pid %s cannot be read: %s", child.pid, error)


def _flush(child: Child) -> None:
    data, child.unsent = b"".join(child.unsent), []
    if child.line is not None and not child.line.is_closing():
        child.line.write(data)


def schedule(os_pid: int, priority: Priority) -> bool:
    """Apply the operating system's scheduling policy for this priority to all threads; nice 19 if idle is refused.

    False if a thread stays below its priority, because only privileged processes can leave the idle policy.
    """
    is_done = True
    for thread in _threads(os_pid):
        try:
            os.sched_setscheduler(thread, POLICY[priority], os.sched_param(0))
        except ProcessLookupError:
            continue
        except OSError:
            is_done &= _set_policy(thread, priority)
    return is_done


def _set_policy(thread: int, priority: Priority) -> bool:
    try:
        os.setpriority(os.PRIO_PROCESS, thread, 19 if priority is Priority.BACKGROUND else 0)
        return priority is Priority.BACKGROUND or os.sched_getscheduler(thread) != os.SCHED_IDLE
    except OSError:
        return False


def start_time(os_pid: int) -> float | None:
    """A process's start time, or None; with the os_pid it identifies a process for good."""
    try:
        return float(psutil.Process(os_pid).create_time())
    except psutil.NoSuchProcess:
        return None


def slay(os_pid: int, born_at: float) -> None:
    """Kill the process with this os_pid if it started at that time, and not a later one with the same os_pid."""
    alive_since = start_time(os_pid)
    if alive_since is not None and abs(alive_since - born_at) < 0.02:
        with contextlib.suppress(ProcessLookupError):
            os.kill(os_pid, signal.SIGKILL)


def own_children() -> set[int]:
    """The children of this process, including adopted and ended ones; empty if /proc does not list them."""
    found: set[int] = set()
    for thread in _threads(os.getpid()):
        with contextlib.suppress(OSError):
            found.update(map(int, Path(f"/proc/self/task/{thread}/children").read_text().split()))
    return found


def _threads(os_pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{os_pid}/task")]
    except FileNotFoundError:
        return []


TICK_S = 1.0
LONGEST_TICK_S = 2.0
NOTICED_AFTER_S = 5.0  # a child beats once a second
LOADING = 4.0  # so many times as long may a child be silent that loads its base: code it imports may hold all threads


@dataclass(slots=True)
class LastHeard:
    """What was heard of one child."""

    os_pid: int
    silent_s: float = 0.0
    beat: Beat = field(default_factory=Beat)
    is_given_up: bool = False


class Heartbeats:
    """Which children have stopped responding, and which of them to replace. It decides only.

    Time is counted in ticks of bounded length: a daemon that stood still, or a machine that slept, has heard nobody,
    and that is nobody's fault. `is_stopped` says of an os_pid that a signal has stopped it.
    """

    def __init__(self, timeout_s: float, call_timeout_s: float, is_stopped: Callable[[int], bool]) -> None:
        self._timeout_s = timeout_s
        self._call_timeout_s = call_timeout_s
        self._is_stopped = is_stopped
        self._heard: dict[int, LastHeard] = {}

    def hear(self, pid: int, frame: FromChild) -> None:
        """A child has said something, whatever it is."""
        heard = self._heard.get(pid)
        if heard is not None:
            heard.silent_s = 0.0
            heard.beat = frame if isinstance(frame, Beat) else Beat()  # whoever says more has moved on

    def tick(self, at: float, elapsed_s: float, processes: Iterable[Process]) -> list[Event]:
        """So much time has gone by: who has fallen silent, who is heard again, who is to be ended."""
        known, self._heard = self._heard, {}
        events: list[Event] = []
        for process in processes:
            if process.state not in ALIVE or process.state is State.SUSPENDED or process.os_pid is None:
                continue
            heard = known.get(process.pid)
            if heard is None or heard.os_pid != process.os_pid:
                heard = LastHeard(process.os_pid, -LONGEST_TICK_S)  # it was born, or woken, a moment ago
            heard.silent_s += min(elapsed_s, LONGEST_TICK_S)
            self._heard[process.pid] = heard
            events += self._judge(at, process, heard)
        return events

    def _judge(self, at: float, process: Process, heard: LastHeard) -> list[Event]:
        quiet_s = max(heard.silent_s, _standing_still_s(process, heard.beat))
        is_noticed = process.unresponsive_since is not None
        events: list[Event] = []
        if quiet_s >= NOTICED_AFTER_S and not is_noticed:
            events.append(ev.Unresponsive(at, process.pid, heard.os_pid, at - quiet_s))
        elif quiet_s < NOTICED_AFTER_S and is_noticed:
            events.append(ev.Responsive(at, process.pid, heard.os_pid))
        why = "" if heard.is_given_up else self._why_to_end(process, heard, quiet_s)
        if why:
            heard.is_given_up = True
            events.append(ev.Hung(at, process.pid, heard.os_pid, why))
        return events

    def _why_to_end(self, process: Process, heard: LastHeard, quiet_s: float) -> str:
        """Why this process is to be ended now; nothing if it is not."""
        may_be = traits_of(process.spec.program).is_replaced_when_hung and process.state in (
            State.STARTING,
            State.READY,
        )
        if not may_be or self._timeout_s <= 0:
            return ""
        if quiet_s >= self._timeout_s and self._is_stopped(heard.os_pid):
            return f"a signal had stopped it {quiet_s:.0f} s ago, so that it was ended"
        if process.spec.priority is Priority.BACKGROUND:  # it has no processor while others compute
            return ""
        if quiet_s >= self._timeout_s * (LOADING if process.state is State.STARTING else 1.0):
            return f"it had not responded for {quiet_s:.0f} s, and was ended"
        if process.state is State.READY and heard.beat.stuck_s >= self._call_timeout_s + self._timeout_s:
            return f"it had computed one step for {heard.beat.stuck_s:.0f} s, longer than any call waits, and was ended"
        return ""


def _standing_still_s(process: Process, beat: Beat) -> float:
    """How long a serve process's loop has been at one step without computing or reading anything."""
    if not traits_of(process.spec.program).answers_calls or process.state is not State.READY:
        return 0.0
    return min(beat.stuck_s, beat.still_s)
