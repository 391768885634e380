"""The process that sends traces to the receiver: started, asked, started again when it ends, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from llmos.abi.trace_batch import TraceEntry, read_reason, write_batch
from llmos.home import MARK, mark

MODULE = "llmos.programs.telemetry.main"
START_AGAIN_S = 10.0  # one that ends by itself is started again this long after its start at the earliest
END_S = 1.0  # so long it may take to end by itself


class SenderProcess:
    """Sends traces through a process of its own. All but `close` is for one thread."""

    def __init__(self, endpoint: str, home: Path, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._command = [sys.executable, "-m", MODULE, endpoint]
        self._environ = os.environ | {MARK: mark(home)}
        self._steady = steady
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._is_closed = False
        self._end = ""  # how it ended

    @property
    def os_pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def send(self, entries: Sequence[TraceEntry]) -> str:
        """Send them, and wait for the answer; returns why they were not taken, empty if they were."""
        process = self._running()
        if process is None:
            return self._end or "the process that sends them has been ended"
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            write_batch(process.stdin, entries)
            reason = read_reason(process.stdout)
        except (OSError, msgspec.DecodeError):  # it has ended, or does not answer as it should
            reason = None
        return self._note_end(process) if reason is None else reason

    def close(self) -> None:
        """End the process, at what it sends too."""
        self._is_closed = True
        if (process := self._process) is not None:
            process.kill()

    def finish(self) -> None:
        """Let the process end by itself: it has nothing left to send."""
        process, self._process, self._is_closed = self._process, None, True
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError), process:
            process.stdin.close()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _running(self) -> subprocess.Popen[bytes] | None:
        """The process, started if need be; None if it may not be started now."""
        if self._process is None:
            now = self._steady()
            if self._is_closed or (self._end and now - self._started_at < START_AGAIN_S):
                return None
            self._started_at = now
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                env=self._environ,
            )
        return self._process

    def _note_end(self, process: subprocess.Popen[bytes]) -> str:
        """How the process ended, which is then cleared away."""
        self._process = None
        with suppress(OSError), process:  # this closes the pipes, with what it did not read
            process.kill()
        self._end = f"the process that sends them ended with {process.returncode}"
        return self._end
