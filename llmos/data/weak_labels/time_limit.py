"""A bound on the processor time of code that may never end, such as a regular expression that backtracks."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TookTooLong(Exception):
    """The code has used all the processor time that it may."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it `limit` works. In the main thread alone, because signals are handled there; Python's own regular
    expressions look for signals while they search."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in this block after so many seconds of processor time, whatever else the machine does."""
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
