"""batch: asks the requests of a file by the daemon's routes, a few at a time, and writes each answer once, in order."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from llmos.abi.batch import EXPIRED, STATE, BatchState, BatchStatus
from llmos.abi.error import LlmosError
from llmos.abi.frame import Job, RouteCalled, RouteReplied
from llmos.abi.process import DONE, Progress
from llmos.abi.wire import from_json, to_json
from llmos.programs.batch_ledger import BatchLedger
from llmos.programs.batch_lines import BatchFile, LineRequest
from llmos.programs.channel import Channel

AT_ONCE = 64  # requests that the daemon has
AHEAD = 1_024  # lines behind the first that is not answered
ATTEMPTS = 6  # of a line whose answer says that another time may be better
BUSY, PASSING = 429, frozenset({408, 429, 500, 502, 503, 504, 507})
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 15.0
WRITE_EVERY_S = 0.2
SYNC_EVERY_S = 2.0
LAST_ANSWERS_S = 10.0  # of a process that is to stop


def main(channel: Channel, job: Job) -> None:
    """Check the file, then ask; the same call again continues where the last one was interrupted."""
    run = BatchRun(channel, job)
    try:
        run.run()
    finally:
        run.close()


@dataclass(slots=True)
class OpenLine:
    """A line that is asked, or waits to be asked again."""

    request: LineRequest
    attempts: int = 0
    again_at: float = 0.0


class BatchRun:
    """One batch with its state."""

    def __init__(
        self,
        channel: Channel,
        job: Job,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        args = job.args
        self._channel, self._clock, self._steady = channel, clock, steady
        self._folder = Path(args["folder"])
        self._batch, self._endpoint = str(args["batch"]), str(args["endpoint"])
        self._expires_at, self._held_bytes = float(args["expires_at"]), int(args["held_bytes"])
        self._file = BatchFile(Path(args["input"]), self._endpoint, int(args["line_bytes"]))
        self._ledger = BatchLedger(self._folder)
        self._state = self._read_state()
        self._open: dict[int, OpenLine] = {}  # by place: how many lines stand before it
        self._waiting: list[int] = []  # places to be asked again
        self._answers: dict[int, tuple[bytes, bool]] = {}  # that wait for an earlier line's
        self._answer_bytes = 0
        self._open_bytes = 0  # of requests that are not answered
        self._in_flight = 0
        self._next = 0  # place of the next line of the file
        self._written_at = self._synced_at = 0.0

    def run(self) -> None:
        """To the end, or until the process is to stop."""
        if self._state.in_progress_at is None and not self._validate():
            return
        self._ledger.recover(one.custom_id for one in self._file.requests())
        requests = self._file.requests()
        for _ in range(self._ledger.count):
            next(requests)
        self._next = self._ledger.count
        self._ask_all(requests)
        if self._channel.stop_asked and self._ledger.count < self._state.total:
            self._write(is_last=True)
            print(f"Stopped after {self._ledger.count:,} of {self._state.total:,} lines", flush=True)
            return
        self._finish(requests)

    def close(self) -> None:
        """Release its files."""
        self._ledger.release()

    # Before and after.

    def _validate(self) -> bool:
        """Whether no line has a fault; else the batch has failed."""
        self._channel.report(Progress("validate", unit="lines"))
        total, faults = self._file.faults()
        now = self._clock()
        if faults:
            status = BatchStatus.FAILED
            self._keep(BatchState(status, total, faults=tuple(faults), ended_at=now))
            said = f"line {faults[0].line}: {faults[0].message}" if faults[0].line else faults[0].message
            self._channel.report(Progress(DONE, 1, 1, "runs", message=f"The file does not fit: {said}"), is_last=True)
            return False
        self._keep(BatchState(BatchStatus.IN_PROGRESS, total, in_progress_at=now))
        return True

    def _finish(self, requests: Iterator[LineRequest]) -> None:
        """Every line is answered, or its time is over."""
        is_expired = self._ledger.count < self._state.total
        self._keep(replace(self._state, status=BatchStatus.FINALIZING, finalizing_at=self._clock()))
        if is_expired:
            self._expire(requests)
        self._ledger.close()
        assert self._ledger.count == self._state.total, f"{self._ledger.count} of {self._state.total}"
        status = BatchStatus.EXPIRED if is_expired else BatchStatus.COMPLETED
        self._keep(replace(self._state_now(), status=status, ended_at=self._clock()))
        self._report(DONE, message=f"{self._ledger.completed:,} answered, {self._ledger.failed:,} failed")

    def _expire(self, requests: Iterator[LineRequest]) -> None:
        """What was not answered in time gets an error each, in its place."""
        place = self._ledger.count
        left = [self._open[one].request if one in self._open else None for one in range(place, self._next)]
        for request in left:
            self._put(place, self._answers.pop(place) if place in self._answers else self._expired_line(request))
            place += 1
        for request in requests:
            self._put(place, self._expired_line(request))
            place += 1

    def _put(self, place: int, answer: tuple[bytes, bool]) -> None:
        self._ledger.add(answer[0], is_error=answer[1])
        if place % AHEAD == 0:
            self._ledger.flush()

    def _expired_line(self, request: LineRequest | None) -> tuple[bytes, bool]:
        assert request is not None, "a line that is neither open nor answered"
        said = {"code": EXPIRED, "message": "The completion window was over before this line was answered"}
        return self._line(request, b"null", msgspec.json.encode(said)), True

    # Asking.

    def _ask_all(self, requests: Iterator[LineRequest]) -> None:
        """Until every line is answered, the time is over, or the process is to stop, with what is in flight then."""
        stop_at: float | None = None
        while self._ledger.count < self._state.total:
            now = self._steady()
            is_ending = self._channel.stop_asked or self._clock() >= self._expires_at
            if is_ending:
                stop_at = now + LAST_ANSWERS_S if stop_at is None else stop_at
                if not self._in_flight or now >= stop_at:
                    return
            else:
                self._send_more(requests, now)
            for frame in (self._channel.receive(self._wait_s(now)), *self._channel.waiting()):
                if isinstance(frame, RouteReplied):
                    self._take(frame)
            self._write_in_order()

    def _wait_s(self, now: float) -> float:
        """How long to wait for an answer: until a line is to be asked again, or what is written is due."""
        until = [self._open[place].again_at - now for place in self._waiting[:1]]
        return max(0.001, min([WRITE_EVERY_S, *until]))

    def _send_more(self, requests: Iterator[LineRequest], now: float) -> None:
        while self._in_flight < AT_ONCE:
            due = self._waiting and self._open[self._waiting[0]].again_at <= now
            if due:
                self._send(self._waiting.pop(0))
            elif self._has_room():
                request = next(requests, None)
                if request is None:
                    return
                self._open[self._next] = OpenLine(request)
                self._open_bytes += len(request.body)
                self._send(self._next)
                self._next += 1
            else:
                return

    def _has_room(self) -> bool:
        """Whether a further line may be begun: few wait for an earlier one, or for another time."""
        held_bytes = self._answer_bytes + self._open_bytes
        return self._next - self._ledger.count < AHEAD and held_bytes < self._held_bytes

    def _send(self, place: int) -> None:
        line = self._open[place]
        line.attempts += 1
        self._in_flight += 1
        self._channel.send(RouteCalled(place, self._endpoint, line.request.body))

    def _take(self, reply: RouteReplied) -> None:
        place, now = reply.request_id, self._steady()
        self._in_flight -= 1
        line = self._open[place]
        may_again = reply.status == BUSY or (reply.status in PASSING and line.attempts < ATTEMPTS)
        if may_again and not _is_final(reply):
            wait_s = min(FIRST_WAIT_S * 2 ** min(line.attempts - 1, 10), LONGEST_WAIT_S)
            line.again_at = now + wait_s
            self._waiting.append(place)
            self._waiting.sort(key=lambda one: self._open[one].again_at)
            return
        del self._open[place]
        self._open_bytes -= len(line.request.body)
        answer = self._answer_line(line.request, reply)
        self._answers[place] = (answer, not 200 <= reply.status < 300)
        self._answer_bytes += len(answer)

    def _answer_line(self, request: LineRequest, reply: RouteReplied) -> bytes:
        body = reply.body if b"\n" not in reply.body else msgspec.json.encode(msgspec.json.decode(reply.body))
        head = b'{"status_code":%d,"request_id":%s,"body":' % (reply.status, msgspec.json.encode(reply.call_id))
        return self._line(request, head + body + b"}", b"null")

    def _line(self, request: LineRequest, response: bytes, error: bytes) -> bytes:
        """A line of the answers, whose id is that of the batch and the line."""
        name = f"batch_req_{self._batch.removeprefix('batch_')}_{request.number}"
        custom_id = msgspec.json.encode(request.custom_id)
        return b'{"id":"%s","custom_id":%s,"response":%s,"error":%s}' % (name.encode(), custom_id, response, error)

    # Writing.

    def _write_in_order(self) -> None:
        """Write the answers of the first lines that are not written yet, as far as they are there."""
        while (answer := self._answers.pop(self._ledger.count, None)) is not None:
            self._answer_bytes -= len(answer[0])
            self._ledger.add(answer[0], is_error=answer[1])
        if self._steady() - self._written_at >= WRITE_EVERY_S:
            self._write()

    def _write(self, *, is_last: bool = False) -> None:
        now = self._steady()
        is_durable = is_last or now - self._synced_at >= SYNC_EVERY_S
        self._ledger.flush(is_durable=is_durable)
        self._written_at = now
        self._synced_at = now if is_durable else self._synced_at
        self._keep(self._state_now())
        self._report("ask")

    def _state_now(self) -> BatchState:
        return replace(self._state, completed=self._ledger.completed, failed=self._ledger.failed)

    def _report(self, phase: str, message: str = "") -> None:
        done, total = self._ledger.count, self._state.total
        progress = Progress(phase, done, total, "lines", {"failed": float(self._ledger.failed)}, message)
        self._channel.report(progress, is_last=phase == DONE)

    def _keep(self, state: BatchState) -> None:
        """Write the state, whole or not at all, also where the machine's power goes."""
        self._state = state
        draft = self._folder / f"{STATE}.draft"
        with draft.open("wb") as file:
            file.write(to_json(state))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._folder / STATE)

    def _read_state(self) -> BatchState:
        """What was kept. A damaged state is made anew: the answers that are written say how far the batch is."""
        path = self._folder / STATE
        try:
            return from_json(path.read_bytes(), BatchState)
        except FileNotFoundError:
            return BatchState()
        except LlmosError as error:
            print(f"{path.name} is damaged, and made anew: {error.message}", flush=True)
            return BatchState()


def _is_final(reply: RouteReplied) -> bool:
    """Whether an error of the server's will come again: an extra that is not installed, a model that can never fit."""
    try:
        found: Any = msgspec.json.decode(reply.body)  # Any: JSON
        return found["error"]["code"] in ("missing_extra", "no_room", "corrupt", "internal")
    except (msgspec.DecodeError, KeyError, TypeError):
        return False
