"""The queue of traces on their way to an OTLP receiver, and the thread that sends them.

A trace that finds the queue full, or that the receiver does not take, is dropped and counted. No call waits for the
receiver, and none fails because of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from llmos.abi.call_record import is_sampled
from llmos.abi.trace_batch import TraceEntry
from llmos.kernel.telemetry.sender_process import SenderProcess

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
INSTALL = "pip install 'llmos[otel]'"
MOST_WAITING = 4_096  # traces, of about 1 kB each
MOST_AT_ONCE = 256  # traces in one request
GATHER_S = 0.25  # so long the first trace of a request waits for others
FLUSH_S = 5.0  # so long the end of the daemon waits for the receiver
GIVE_UP_S = 1.0  # and then so long for the thread to notice
SAY_EVERY_S = 60.0  # a failure that goes on is said once in this time
log = logging.getLogger(__name__)


class TraceSender(Protocol):
    """Sends traces to a receiver. Used by the exporter's thread alone, but for `close`."""

    def send(self, entries: Sequence[TraceEntry]) -> str:
        """Send them, and wait for the answer; returns why they were not taken, empty if they were."""
        ...

    def close(self) -> None:
        """Give up what is being sent. From any thread, once."""
        ...

    def finish(self) -> None:
        """End, with nothing left to send."""
        ...


def is_installed() -> bool:
    """Whether the packages of the extra `otel` are there. Imports none of them but their parents."""
    try:
        return all(find_spec(name) is not None for name in PACKAGES)
    except ModuleNotFoundError:  # a parent is not there either
        return False


def exporter_to(endpoint: str, home: Path, share: float) -> TraceExporter:
    """What sends a share of traces to the receiver at this base address, by a process of its own."""
    return TraceExporter(SenderProcess(endpoint, home), share=share)


class TraceExporter:
    """Takes traces from calls, sends them in a thread. `share` is of the calls whose client did not decide itself."""

    def __init__(
        self,
        sender: TraceSender,
        *,
        share: float = 1.0,
        most_waiting: int = MOST_WAITING,
        gather_s: float = GATHER_S,
        flush_s: float = FLUSH_S,
    ) -> None:
        self.sent_count = 0
        self._sender = sender
        self._share = share
        self._most_waiting = most_waiting
        self._gather_s = gather_s
        self._flush_s = flush_s
        self._queue: SimpleQueue[TraceEntry | None] = SimpleQueue()
        self._added = 0  # by the loop alone
        self._refused = 0  # by the loop alone
        self._taken = 0  # by the thread alone
        self._failed = 0  # by the thread alone
        self._is_over = False
        self._hurry = threading.Event()
        self._said_at = -SAY_EVERY_S
        self._thread = threading.Thread(target=self._run, name="otel", daemon=True)
        self._thread.start()

    @property
    def waiting_count(self) -> int:
        """Traces that are neither sent nor lost."""
        return self._added - self._taken

    @property
    def lost_count(self) -> int:
        """Traces that no receiver has: the queue was full, it did not take them, or the daemon ended."""
        return self._refused + self._failed + (self.waiting_count if self._is_over else 0)

    def add(self, entry: TraceEntry) -> None:
        """Queue the trace of a call that has ended, if it is sampled; drop it if too many wait. Never waits."""
        context = entry[-2]
        if not (is_sampled(entry[0], self._share) if context is None else context.is_sampled):
            return
        if self.waiting_count >= self._most_waiting or self._is_over:
            self._refused += 1
            return
        self._added += 1
        self._queue.put(entry)

    def close(self) -> None:
        """Send what is queued, for a few seconds at most, and end the thread. What is left is counted as lost."""
        self._queue.put(None)
        self._hurry.set()
        self._thread.join(self._flush_s)
        self._is_over = True
        if self._thread.is_alive():
            self._sender.close()
            self._thread.join(GIVE_UP_S)
        if self.waiting_count:
            log.warning("%d traces were not sent before the end: the receiver did not take them", self.waiting_count)

    # The thread.

    def _run(self) -> None:
        while not self._is_over and (batch := self._next_batch()):
            if failure := self._send(batch):
                self._failed += len(batch)
                self._say(failure)
            else:
                self.sent_count += len(batch)
            self._taken += len(batch)
        self._sender.finish()

    def _next_batch(self) -> list[TraceEntry]:
        """The next traces to send together, once there is one; empty at the end."""
        first = self._queue.get()
        if first is None:
            return []
        batch = [first]
        if self._queue.qsize() < MOST_AT_ONCE:
            self._hurry.wait(self._gather_s)
        while len(batch) < MOST_AT_ONCE and not self._queue.empty():
            entry = self._queue.get()
            if entry is None:
                self._queue.put(None)  # for the next time
                break
            batch.append(entry)
        return batch

    def _send(self, batch: list[TraceEntry]) -> str:
        try:
            return self._sender.send(batch)
        except Exception as error:  # noqa: BLE001  # the top of a thread: the next may be sent
            return f"{type(error).__name__}: {error}"

    def _say(self, failure: str) -> None:
        if time.monotonic() - self._said_at >= SAY_EVERY_S:
            self._said_at = time.monotonic()
            log.error(
                "OpenTelemetry: %d traces are lost: %s. Calls are answered all the same", self.lost_count, failure
            )
