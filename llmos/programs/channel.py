"""The child's end of its socket: frames up and down, and a heartbeat. When the daemon has gone, the child ends."""

from __future__ import annotations

import os
import queue
import resource
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from llmos.abi.error import error_of
from llmos.abi.frame import Accepted, Beat, FromChild, Offered, Report, Stop, ToChild, UsageReport
from llmos.abi.model import Offer
from llmos.abi.process import Progress, Usage
from llmos.abi.wire import Splitter, encode

REPORT_EVERY_S = 0.1
SPENT_EVERY_S = 1.0
READ_BYTES = 1 << 18
DAEMON_GONE = 70  # the exit code of a child whose daemon went away


class Stopped(Exception):
    """The daemon wants this process to end. There is no partial work to keep."""


class Channel:
    """Frames to and from the daemon. Sending is thread-safe; receiving belongs to one thread."""

    def __init__(self, sock: socket.socket, *, on_gone: Callable[[], None] = lambda: os._exit(DAEMON_GONE)) -> None:
        self._socket = sock
        self._on_gone = on_gone
        self._inbox: queue.SimpleQueue[ToChild | None] = queue.SimpleQueue()  # None only wakes the receiver
        self._accepted: queue.SimpleQueue[Accepted] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._reported_at = 0.0
        self._phase = ""
        self._spent_at = 0.0
        self.moves = 0  # how often this process's loop has polled the channel: the heartbeat reports it
        threading.Thread(target=self._read, name="channel", daemon=True).start()

    def send(self, frame: FromChild) -> None:
        """Send one frame; this process ends here if the daemon is gone."""
        data = encode(frame)
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError:
            self._on_gone()

    def receive(self, within_s: float | None = None) -> ToChild | None:
        """Wait for the next frame; None if none came within this time, or `wake` was called."""
        self.moves += 1
        try:
            return self._inbox.get(timeout=within_s)
        except queue.Empty:
            return None

    def waiting(self) -> list[ToChild]:
        """All frames that have arrived and were not taken yet, without waiting."""
        taken: list[ToChild] = []
        while True:
            try:
                frame = self._inbox.get_nowait()
            except queue.Empty:
                return taken
            if frame is not None:
                taken.append(frame)

    def wake(self) -> None:
        """Wake the thread that waits for a frame. Thread-safe."""
        self._inbox.put(None)

    @property
    def stop_asked(self) -> bool:
        """Whether the daemon wants this process to finish its work and end."""
        return self._stop.is_set()

    def report(self, progress: Progress, *, is_last: bool = False) -> None:
        """Report progress: at most ten reports a second, and each that is a phase's first or last or has a message."""
        now = time.monotonic()
        is_edge = is_last or progress.phase != self._phase or (progress.total > 0 and progress.done >= progress.total)
        if is_edge or progress.message or now - self._reported_at >= REPORT_EVERY_S:
            self._reported_at, self._phase = now, progress.phase
            self.send(Report(progress))
        self.report_usage()

    def report_usage(self) -> None:
        """Report resource usage, at most once a second."""
        self.moves += 1
        now = time.monotonic()
        if now - self._spent_at >= SPENT_EVERY_S:
            self._spent_at = now
            self.send(UsageReport(usage_now()))

    def offer(self, offer: Offer) -> Accepted:
        """Offer files to the kernel and wait until they are committed; raises the fault if they are refused."""
        self.send(Offered(offer))
        while True:
            accepted = self._accepted.get()
            if accepted.offer_id != offer.offer_id:
                continue
            if accepted.fault is not None:
                raise error_of(accepted.fault)
            return accepted

    def _read(self) -> None:
        splitter = Splitter()
        while True:
            try:
                data = self._socket.recv(READ_BYTES)
            except OSError:
                data = b""
            if not data:
                return self._on_gone()
            self._feed(splitter, data)

    def _feed(self, splitter: Splitter, data: bytes) -> None:
        """A function of its own, so that the thread's frame does not keep the last, possibly large, message alive."""
        for frame in splitter.feed(data):
            self._take(frame)

    def _take(self, frame: ToChild | FromChild) -> None:
        if isinstance(frame, Accepted):
            self._accepted.put(frame)
            return
        if isinstance(frame, Stop):
            self._stop.set()
        self._inbox.put(frame)  # type: ignore[arg-type]  # the daemon sends Down frames only


def usage_now() -> Usage:
    """The resources that this process has used so far, with the CPU time of its forked children."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    page = resource.getpagesize()
    with open("/proc/self/statm", encoding="ascii") as statm:
        _, resident, shared, *_ = (int(pages) for pages in statm.read().split())
    cpu_s = used.ru_utime + used.ru_stime + _cpu_s_of_children()
    return Usage(cpu_s=cpu_s, rss_bytes=resident * page, shared_bytes=shared * page)


def _cpu_s_of_children() -> float:
    ticks = 0
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
            for pid in children.read().split():
                with open(f"/proc/{pid}/stat", "rb") as stat:
                    user, system = stat.read().rpartition(b")")[2].split()[11:13]
                    ticks += int(user) + int(system)
    except OSError:  # a child has just ended, or /proc does not list children
        pass
    return ticks / os.sysconf("SC_CLK_TCK")


BEAT_EVERY_S = 1.0
LONGEST_TICK_S = 2.0
BUSY = 0.02  # who uses this share of a core is computing; the thread itself uses a tenth of it


@dataclass(frozen=True, slots=True)
class Work:
    """What a process has done so far: seconds of processor time, page faults and reads that went to a disk."""

    cpu_s: float
    disk_reads: int


class Pulse:
    """How long a loop has been at one step: `moves` counts its steps.

    Time is counted in the thread's own ticks, each of bounded length: while the process is stopped, or the machine
    sleeps, none goes by.
    """

    def __init__(self, work: Work) -> None:
        self._moves = -1
        self._work = work
        self._beat = Beat()

    def tick(self, elapsed_s: float, moves: int, work: Work) -> Beat:
        """The heartbeat after so much time."""
        passed_s = min(elapsed_s, LONGEST_TICK_S)
        is_busy = work.cpu_s - self._work.cpu_s >= BUSY * elapsed_s or work.disk_reads > self._work.disk_reads
        if moves != self._moves:
            self._beat = Beat()
        else:
            self._beat = Beat(self._beat.stuck_s + passed_s, 0.0 if is_busy else self._beat.still_s + passed_s)
        self._moves, self._work = moves, work
        return self._beat


class Heartbeat:
    """A thread that tells the daemon that this process lives, and whether its loop moves on: from `start` to `stop`."""

    def __init__(
        self, channel: Channel, every_s: float = BEAT_EVERY_S, *, also: Callable[[], object] = lambda: None
    ) -> None:
        """`also` is done at every beat."""
        self._channel = channel
        self._every_s = every_s
        self._also = also
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        pulse, then = Pulse(work_now()), time.monotonic()
        while not self._is_over.wait(self._every_s):
            now = time.monotonic()
            self._also()
            self._channel.send(pulse.tick(now - then, self._channel.moves, work_now()))
            then = now


def work_now() -> Work:
    """What this process has done until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Work(used.ru_utime + used.ru_stime, used.ru_majflt + used.ru_inblock)
