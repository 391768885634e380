"""The serve program: one base on one device. Queued calls are taken at once, computed together, and answered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from llmos.abi.call import Call, Chunk, Operation, characters
from llmos.abi.error import LlmosError, fault_of
from llmos.abi.frame import (
    Ask,
    Attach,
    Attached,
    AttachFailed,
    Cancel,
    Chunks,
    Computed,
    Detach,
    Detached,
    Job,
    ModelPath,
    Ready,
    Stop,
    TakenIn,
    TakesIn,
    ToChild,
)
from llmos.abi.heap import give_back
from llmos.abi.note import Note
from llmos.abi.process import SERVING, Progress
from llmos.engines import Engine, driver
from llmos.engines.intake import CallIntake, Intake
from llmos.engines.tokenization import load_in_steps, tokenize_in_steps
from llmos.programs.channel import Channel
from llmos.programs.resident import with_resident

REPORT_EVERY_S = 1.0
MUCH_CHARS = 1 << 20
SAY_EVERY = 0.125  # of a large call: progress is reported in steps of this share
LOOK_EVERY_S = 1.0  # how often an idle process checks whether its engine still lives


def main(channel: Channel, assignment: Job) -> None:
    """Answer calls until told to stop; calls in progress are finished first."""
    args = assignment.args
    command = str(args.get("vllm_command", "vllm"))
    engine = driver(str(args["engine"]), int(args["token_budget"]), int(args.get("kv_bytes", 0)), command)
    base = assignment.models["base"]
    if engine.uses_resident:
        base = with_resident(channel, assignment, base)
    try:
        weights_bytes = engine.load(base, assignment.device, assignment.dtype, assignment.threads)
        note = Note()
        channel.send(TakesIn(os.getpid(), note.fd))
        channel.send(Ready(weights_bytes))
        server = ServeLoop(channel, engine, note)
        while not server.is_done:
            server.step()
        note.close()
    finally:
        engine.close()


class ServeLoop:
    """Feeds the engine with calls and the daemon with chunks; a new call waits for one batch at most."""

    def __init__(self, channel: Channel, engine: Engine, note: Note) -> None:
        self._channel = channel
        self._engine = engine
        self._intake = CallIntake(note, channel.wake)
        self._alone: set[int] = set()  # exclusive calls whose intake has not ended
        self._is_stopping = False
        self._took_much = False  # whether a large text was read, whose memory is returned later
        self._reported_at = 0.0
        self._figures: dict[str, float] = {}
        self._computed: dict[int, float] = {}  # the reported progress of large calls
        self._asked_at: dict[int, float] = {}  # of each call that is not answered yet

    @property
    def is_done(self) -> bool:
        return self._is_stopping and self._engine.is_idle and self._intake.is_idle

    def step(self) -> None:
        """Take every frame that waits, block for one only if the engine is idle, and compute one batch."""
        if self._took_much and self._intake.is_idle:
            self._took_much = False
            give_back()
        if self._engine.is_idle and (frame := self._channel.receive(LOOK_EVERY_S)) is not None:
            self._take(frame)
        for frame in self._channel.waiting():
            self._take(frame)
        for call, outcome in self._intake.collect():
            self._take_in_hand(call, outcome)
        if not self._engine.is_idle:
            self._say(self._engine.step())
            self._say_computed()
        self._report()  # also after the last call was cancelled
        self._channel.report_usage()

    def _report(self) -> None:
        """Report the engine's figures, at most once a second, and once more when it becomes idle."""
        now = time.monotonic()
        if now - self._reported_at >= REPORT_EVERY_S or self._engine.is_idle:
            self._reported_at = now
            if (figures := self._engine.figures) != self._figures:
                self._figures = figures
                self._channel.report(Progress(SERVING, figures=figures), is_last=self._engine.is_idle)

    def _say_computed(self) -> None:
        """Report the progress of large calls, so that the daemon can send as much of another."""
        computed = self._engine.progress
        self._computed = {call_id: self._computed.get(call_id, 0.0) for call_id in computed}
        for call_id, share in computed.items():
            if share - self._computed[call_id] >= SAY_EVERY:
                self._computed[call_id] = share
                self._channel.send(Computed(call_id, share))

    def _take(self, frame: ToChild) -> None:
        match frame:
            case Ask(call, is_alone):
                self._asked_at[call.call_id] = time.perf_counter()
                self._took_much |= characters(call.inputs) > MUCH_CHARS
                self._put(call, is_alone=is_alone)
            case Cancel(call_id):
                self._alone.discard(call_id)
                self._asked_at.pop(call_id, None)
                self._intake.cancel(call_id)
                self._engine.cancel(call_id)
            case Attach(model):
                self._attach(model)
            case Detach(model):
                self._engine.detach(model)
                self._channel.send(Detached(model))
            case Stop():
                self._is_stopping = True

    def _put(self, call: Call, *, is_alone: bool) -> None:
        if is_alone:
            self._alone.add(call.call_id)
        try:
            if self._intake.put(call, self._steps_of(call)):
                self._say_taken(call)
        except Exception as error:  # noqa: BLE001  # one call's fault is that call's answer
            self._alone.discard(call.call_id)
            self._say([Chunk(call.call_id, fault=fault_of(error))])

    def _steps_of(self, call: Call) -> Intake:
        """How a call is taken in: by the engine, or by the tokenizer alone, which answers it as well."""
        if call.operation is Operation.ANSWER:
            return self._engine.take_in(call)
        if call.operation is Operation.LOAD:
            return load_in_steps(call, lambda chunk: self._say([chunk]))
        return tokenize_in_steps(self._engine.tokenizer_of(call.model), call, lambda chunk: self._say([chunk]))

    def _say_taken(self, call: Call) -> None:
        """Tell the daemon that an exclusive call is taken in, so that others may follow."""
        if call.call_id in self._alone:
            self._alone.discard(call.call_id)
            self._channel.send(TakenIn(call.call_id))

    def _take_in_hand(self, call: Call, outcome: Callable[[], None] | Exception) -> None:
        """Add a call whose intake has ended to the engine, or answer with its error."""
        self._say_taken(call)
        if isinstance(outcome, Exception):
            self._say([Chunk(call.call_id, fault=fault_of(outcome))])
        else:
            outcome()

    def _attach(self, model: ModelPath) -> None:
        started = time.perf_counter()
        try:
            self._engine.attach(model)
        except Exception as error:  # noqa: BLE001  # one model's fault is the answer to its calls
            self._channel.send(AttachFailed(model.manifest.ref, fault_of(error)))
        else:
            self._channel.send(Attached(model.manifest.ref, time.perf_counter() - started))

    def _say(self, chunks: list[Chunk]) -> None:
        """Send a batch's chunks in one frame; if that is too big, one frame each; a chunk that is too big becomes a
        fault."""
        if not chunks:
            return
        for chunk in chunks:
            if chunk.is_last:
                self._fill_times(chunk)
        try:
            self._channel.send(Chunks(tuple(chunks)))
        except LlmosError as error:
            if len(chunks) == 1:
                self._channel.send(Chunks((Chunk(chunks[0].call_id, fault=fault_of(error)),)))
                return
            for chunk in chunks:
                self._say([chunk])

    def _fill_times(self, chunk: Chunk) -> None:
        """What is left of the time since the call came was for taking it in."""
        asked_at, times = self._asked_at.pop(chunk.call_id, None), chunk.times
        if asked_at is not None and times is not None:
            known_s = times.batch_s + times.compute_s + times.parse_s
            times.tokenize_s = max(time.perf_counter() - asked_at - known_s, 0.0)
