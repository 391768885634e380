"""Calls answered by an external generator (llama.cpp, vLLM): one request per answer, bounded concurrency, chunks out.

Each answer is generated in a thread of its own, which sends its pieces over a queue; everything else happens in the
engine's thread.
"""

from __future__ import annotations

import queue
import threading
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

from llmos.abi.call import Call, Chunk
from llmos.abi.error import BadInput, Fault, LlmosError, TooLong, WrongTask, fault_of
from llmos.abi.json_type import Json
from llmos.abi.process import Priority
from llmos.engines.active_call import ActiveCall, ActiveCalls
from llmos.engines.base_only import BaseOnly
from llmos.engines.intake import Intake, render_in_steps
from llmos.engines.priority import PriorityQueue
from llmos.engines.tokenization import ModelTokenizer
from llmos.tasks import Settings, Tokenizer, with_params
from llmos.tasks.generate import Sampling, salt_of, sampling
from llmos.tasks.inputs import naming_place
from llmos.tasks.tools import with_tool_rule

MANY = 8  # a call with more answers than this is large, and yields to smaller ones
YIELDED = 0.75  # the largest share of slots and KV cache for all large and lower-priority calls together
WAIT_S = 0.005  # how long a step waits for a piece before new calls are read


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer. The last one has the finish reason and the number of tokens."""

    text: str = ""
    finish_reason: str | None = None
    logprobs: tuple[Json, ...] = ()
    made: int = 0


@dataclass(slots=True, eq=False)
class Leg:
    """One answer to one input. The engine's thread calls `wake` when the answer is no longer wanted."""

    place: tuple[float, int]
    job: ActiveCall
    index: int
    settings: Sampling
    salt: str
    wake: Callable[[], None] | None = None
    text: str = ""
    logprobs: list[Json] = field(default_factory=list)  # that were not said yet

    def put(self, piece: Delta) -> list[Chunk]:
        """Add a piece of an answer; returns a chunk if the call streams, and the call's last chunk at the end."""
        self.text += piece.text
        self.logprobs += piece.logprobs
        self.job.completion_tokens += piece.made
        logprobs = None if self.settings.top_logprobs is None else self._drain_logprobs
        return self.job.put_text(self.index, self.text, piece.text, piece.finish_reason, logprobs)

    def _drain_logprobs(self) -> list[Json]:
        unsaid, self.logprobs = self.logprobs, []
        return unsaid

    @property
    def ids(self) -> list[int]:
        return self.job.rendered[self.index].ids

    @property
    def size(self) -> int:
        """The most tokens that prompt and answer may take."""
        return len(self.ids) + self.settings.max_tokens

    @property
    def is_over(self) -> bool:
        return self.job.is_over

    @property
    def yields(self) -> bool:
        """Whether it is large or of lower priority, and some slots are kept free from it."""
        return self.job.is_large or self.job.call.priority is not Priority.INTERACTIVE


class Writer(Protocol):
    """An external generator: `slots` answers at a time, each of at most `room` tokens with its prompt, of `capacity` in
    all."""

    slots: int
    room: int
    capacity: int
    vocabulary: int

    @property
    def tokenizer(self) -> Tokenizer: ...

    def check(self, settings: Sampling) -> None:
        """Raise BadInput for settings that the generator does not support."""
        ...

    def write(self, leg: Leg, say: Callable[[Delta], None]) -> None:
        """Generate this answer in the calling thread and pass on each piece; return when it is complete or the leg is
        over."""
        ...


Said = tuple[Leg, Delta | Fault | None]


class ExternalEngine(BaseOnly):
    """An engine whose base another program computes: legs that wait in order, legs that are being written.

    A driver's `load` calls `serve`, and its `close` ends the program.
    """

    def __init__(self) -> None:
        self._calls = ActiveCalls()
        self._waiting: list[Leg] = []
        self._writing: set[Leg] = set()
        self._heard: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._numbers = count()
        self._turns = PriorityQueue()

    def serve(self, writer: Writer, ref: str, tasks: tuple[str, ...], settings: Settings) -> None:
        """From now on calls to this base are answered, by this writer."""
        self._writer, self.ref, self._tasks, self._settings = writer, ref, tasks, settings

    @property
    def is_idle(self) -> bool:
        return not self._calls

    @property
    def figures(self) -> dict[str, float]:
        """Running and waiting answers, and the share of the KV cache that they may need."""
        if not self.ref:
            return {}
        live = [leg for leg in self._writing if not leg.is_over]
        held = sum(leg.size for leg in live)
        waiting = sum(not leg.is_over for leg in self._waiting)
        return {"live": len(live), "waiting": waiting, "kv_share": round(held / self._writer.capacity, 3)}

    @property
    def progress(self) -> dict[int, float]:
        return self._calls.progress

    def tokenizer_of(self, model: str) -> ModelTokenizer:
        self.check_model(model)
        return ModelTokenizer(self._writer.tokenizer, self._settings)

    def take_in(self, call: Call) -> Intake:
        self.check_model(call.model)
        if call.task not in self._tasks:
            raise WrongTask(
                f"{self.ref} does {', '.join(self._tasks)} here, not {call.task}. Ask another engine for it: pytorch",
                model=self.ref,
                task=call.task,
                has=list(self._tasks),
            )
        task = with_params(call.task, call.params)
        made = yield from render_in_steps(task, call, self._writer.tokenizer, self._settings)
        wish = sampling(call.params)
        job = ActiveCall(call, task, self._settings, made)
        job.repeat(wish.n)
        job.is_large = len(job.rendered) > MANY
        chosen = []
        for i in range(len(job.rendered)):
            with naming_place(index=i // wish.n):
                chosen.append(self._sampling_of(job, i, wish))
        return lambda: self._put(job, chosen)

    def _put(self, job: ActiveCall, chosen: list[Sampling]) -> None:
        """Add a call, with the sampling settings of each answer."""
        self._calls.put(job)
        place, salt = self._turns.enter(job), salt_of(job.call.params)
        for i, settings in enumerate(chosen):
            leg = Leg((place, next(self._numbers)), job, i, settings, salt)
            place += self._turns.step_of(job, leg.size)
            insort(self._waiting, leg, key=lambda leg: leg.place)

    def cancel(self, call_id: int) -> None:
        job = self._calls.cancel(call_id)
        if job is not None:
            self._let_go(job)

    def step(self) -> list[Chunk]:
        """Start the answers that fit, and return the chunks that have come."""
        chunks = self._hear(wait=False)
        self._begin()
        return chunks or self._hear(wait=True)

    def _hear(self, *, wait: bool) -> list[Chunk]:
        chunks: list[Chunk] = []
        while True:
            try:
                leg, said = self._heard.get(wait, WAIT_S)
            except queue.Empty:
                break
            wait = False
            chunks += self._took(leg, said)
        for job in self._calls.end(chunks):
            self._let_go(job)
        return chunks

    def _took(self, leg: Leg, said: Delta | Fault | None) -> list[Chunk]:
        if not isinstance(said, Delta):
            self._writing.discard(leg)
        if said is None or leg.is_over:
            return []
        if isinstance(said, Fault):
            return leg.job.fail(said)
        try:
            return leg.put(said)
        except LlmosError as error:  # only this call's fault, not its neighbours'
            return leg.job.fail(fault_of(error))

    def _begin(self) -> None:
        """Start waiting answers in order, while there are slots and KV cache for the most tokens they may take."""
        self._waiting = [leg for leg in self._waiting if not leg.is_over]
        still: list[Leg] = []
        is_left_to_others = False  # whether the remaining room is kept for small calls of high priority
        for place, leg in enumerate(self._waiting):
            if not self._has_room(leg, 1.0):
                still += self._waiting[place:]
                break
            if leg.yields and (is_left_to_others or not self._has_room(leg, YIELDED)):
                is_left_to_others = True
                still.append(leg)
                continue
            self._writing.add(leg)
            self._turns.start_row([(leg.job, leg.place[0], leg.size)])
            threading.Thread(target=self._write, args=(leg,), name=f"answer-{leg.place[1]}", daemon=True).start()
        self._waiting = still

    def _has_room(self, leg: Leg, share: float) -> bool:
        """Whether the answer fits into this share of slots and capacity, beside all others or beside those that also
        yield."""
        beside = [one for one in self._writing if share == 1.0 or one.yields]
        if len(beside) >= self._writer.slots * share:
            return False
        return not beside or sum(one.size for one in beside) + leg.size <= self._writer.capacity * share

    def _write(self, leg: Leg) -> None:
        """Runs in the answer's thread. It always sends an end, also after an exception."""
        end: Fault | None = None
        try:
            self._writer.write(leg, lambda piece: self._heard.put((leg, piece)))
        except Exception as error:  # noqa: BLE001  # the top of a thread: whatever it was, who waits learns of it
            end = fault_of(error)
        self._heard.put((leg, end))

    def _let_go(self, job: ActiveCall) -> None:
        """Wake the call's generating threads, so that they stop."""
        for leg in self._writing:
            if leg.job is job and leg.wake is not None:
                leg.wake()

    def _sampling_of(self, job: ActiveCall, index: int, wish: Sampling) -> Sampling:
        """The request's settings for this answer, with `max_tokens` cut to the room there is."""
        one, room = job.rendered[index], min(self._writer.room, self._writer.capacity)
        settings = with_tool_rule(wish, one.context).for_answer(index % wish.n)
        self._writer.check(settings)
        if settings.echo:
            raise BadInput(f"The engine {self.name} repeats no prompt. Ask another engine: pytorch", key="echo")
        for token, _ in settings.logit_bias:
            if token >= self._writer.vocabulary:
                raise BadInput(
                    f"logit_bias names token {token:,}; the vocabulary ends at {self._writer.vocabulary - 1:,}",
                    key="logit_bias",
                    token=token,
                )
        if len(one.ids) >= room:
            raise TooLong(
                f"The prompt has {len(one.ids):,} tokens; there is room for {room:,} in all. Shorten it, or raise "
                "kv_bytes",
                size=len(one.ids) + 1,
                limit=room,
            )
        return replace(settings, max_tokens=min(settings.max_tokens, room - len(one.ids)))
