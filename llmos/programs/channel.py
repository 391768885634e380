"""The child's end of its socket to the daemon: frames up, frames down. When the daemon has gone, the child ends."""

from __future__ import annotations

import os
import queue
import resource
import socket
import threading
import time
from collections.abc import Callable

from llmos.abi.error import error_of
from llmos.abi.frame import Accepted, FromChild, Offered, Report, Stop, ToChild, UsageReport
from llmos.abi.model import Offer
from llmos.abi.process import Progress, Usage
from llmos.abi.wire import Splitter, encode

REPORT_EVERY_S = 0.1
SPENT_EVERY_S = 1.0
READ_BYTES = 1 << 18
DAEMON_GONE = 70  # the exit code of a child whose daemon went away


class Channel:
    """Frames to and from the daemon. Sending is safe from any thread; receiving belongs to one."""

    def __init__(self, sock: socket.socket, *, on_gone: Callable[[], None] = lambda: os._exit(DAEMON_GONE)) -> None:
        self._socket = sock
        self._on_gone = on_gone
        self._inbox: queue.SimpleQueue[ToChild | None] = queue.SimpleQueue()  # None: only to wake who waits
        self._accepted: queue.SimpleQueue[Accepted] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._reported_at = 0.0
        self._phase = ""
        self._spent_at = 0.0
        self.moves = 0  # how often the loop of this process has come by here: a heartbeat tells from it
        threading.Thread(target=self._read, name="channel", daemon=True).start()

    def send(self, frame: FromChild) -> None:
        """Send one frame, whole; the child ends here if nobody listens any more."""
        data = encode(frame)
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError:
            self._on_gone()

    def receive(self, within_s: float | None = None) -> ToChild | None:
        """The next frame, waiting for it; None if none has come within this time, or `wake` was called."""
        self.moves += 1
        try:
            return self._inbox.get(timeout=within_s)
        except queue.Empty:
            return None

    def waiting(self) -> list[ToChild]:
        """Every frame that has arrived and was not taken yet, without waiting."""
        taken: list[ToChild] = []
        while True:
            try:
                frame = self._inbox.get_nowait()
            except queue.Empty:
                return taken
            if frame is not None:
                taken.append(frame)

    def wake(self) -> None:
        """Whoever waits for a frame waits no longer. Safe from any thread."""
        self._inbox.put(None)

    @property
    def stop_asked(self) -> bool:
        """The daemon wants this process to finish what is in hand and end."""
        return self._stop.is_set()

    def report(self, progress: Progress, *, is_last: bool = False) -> None:
        """Say how far the work is, as often as one likes: ten a second are sent, and each phase's first and last."""
        now = time.monotonic()
        is_edge = is_last or progress.phase != self._phase or (progress.total > 0 and progress.done >= progress.total)
        if is_edge or now - self._reported_at >= REPORT_EVERY_S:
            self._reported_at, self._phase = now, progress.phase
            self.send(Report(progress))
        self.report_usage()

    def report_usage(self) -> None:
        """Say what this process has used, once a second at most."""
        self.moves += 1
        now = time.monotonic()
        if now - self._spent_at >= SPENT_EVERY_S:
            self._spent_at = now
            self.send(UsageReport(usage_now()))

    def offer(self, offer: Offer) -> Accepted:
        """Ask the kernel to commit files, and wait until it has; raises the fault that stopped it."""
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
        """A function of its own: whoever waits for more must not hold the last frame, which may be large."""
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
    """What this operating system process has used so far, with the processor time of those it has forked."""
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
    except OSError:  # a child has just ended, or this kernel keeps no list of them
        pass
    return ticks / os.sysconf("SC_CLK_TCK")
