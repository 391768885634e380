"""Ends a waiting verb if the daemon hangs or was stopped by a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from llmos.abi.error import Unavailable

if TYPE_CHECKING:
    from llmos.home import OsProcess

LOOK_EVERY_S = 5.0
ANSWERS_WITHIN_S = 10.0
LOOKS = 2  # failed checks in a row before the daemon counts as hung: on a busy machine one may fail
WAY_OUT = "End it and what it runs: llmos down. Then start it again: llmos up"


class Watch:
    """Watches the daemon at this address.

    `answers` checks whether it responds; `stopped` returns its os_pid if it is stopped.
    """

    def __init__(
        self, url: str, answers: Callable[[str], bool] | None = None, stopped: Callable[[], int | None] | None = None
    ) -> None:
        self._url = url
        self._answers = answers or _answers
        self._stopped = stopped or _stopped_error
        self._silent = 0

    def look(self) -> None:
        """Raise Unavailable if the daemon is stopped by a signal or has not answered several times.

        A daemon that is gone is no error here: the waiting request notices it.
        """
        os_pid = self._stopped()
        if os_pid is not None:
            sentence = (
                f"The daemon at {self._url} (pid {os_pid}) was stopped by a signal. Let it go on: kill -CONT {os_pid}"
            )
            raise Unavailable(f"{sentence}. Or: {WAY_OUT}", url=self._url, os_pid=os_pid)
        self._silent = 0 if self._answers(self._url) else self._silent + 1
        if self._silent >= LOOKS:
            raise Unavailable(f"The daemon at {self._url} does not answer. {WAY_OUT}", url=self._url, hangs=True)


@contextmanager
def watching(look: Callable[[], None], every_s: float = LOOK_EVERY_S) -> Iterator[None]:
    """Check periodically while the block runs, by an alarm signal in the main thread, which interrupts any waiting.

    In other threads nothing is watched.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        look()

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _answers(url: str) -> bool:
    """Whether the daemon responds. A refused connection counts too: then nothing hangs."""
    import ssl
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import urlsplit

    place = urlsplit(url)
    host = place.hostname or "127.0.0.1"
    if place.scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is told, only a sign of life heard
        connection: HTTPConnection = HTTPSConnection(host, place.port, timeout=ANSWERS_WITHIN_S, context=context)
    else:
        connection = HTTPConnection(host, place.port, timeout=ANSWERS_WITHIN_S)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse()
    except TimeoutError:
        return False
    except (OSError, HTTPException, ValueError):
        return True
    finally:
        connection.close()
    return True


def _stopped_error() -> int | None:
    from llmos.config import read_config
    from llmos.home import daemon_of, is_stopped

    daemon: OsProcess | None = daemon_of(read_config().home)
    if daemon is None:
        return None
    with daemon:
        return daemon.os_pid if is_stopped(daemon.os_pid) else None
