"""The heartbeat: a thread that tells the daemon once a second that this process lives, and whether its loop moves on.

Time is counted in the thread's own ticks, each of bounded length: while the process is stopped, or the machine sleeps,
none goes by.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from llmos.abi.frame import Beat
from llmos.programs.channel import Channel

BEAT_EVERY_S = 1.0
LONGEST_TICK_S = 2.0
BUSY = 0.02  # who uses this share of a core is computing; the thread itself uses a tenth of it


@dataclass(frozen=True, slots=True)
class Work:
    """What a process has done so far: seconds of processor time, page faults and reads that went to a disk."""

    cpu_s: float
    disk_reads: int


class Pulse:
    """How long a loop has been at one step: `moves` counts its steps."""

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
    """Beats from `start` to `stop`, or to the end of the process."""

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
