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

from llmos.abi.call import Call, Chunk, Tokens
from llmos.abi.error import BadInput, Fault, LlmosError, ModelNotFound, TooLong, WrongTask, fault_of
from llmos.abi.json_type import Json
from llmos.abi.process import Priority
from llmos.engines.intake import Intake, parts, whole
from llmos.engines.priority import PriorityQueue
from llmos.tasks import Rendered, Settings, Task, Tokenizer, with_params
from llmos.tasks.generate import Sampling, salt_of, sampling
from llmos.tasks.inputs import naming_place, render_inputs
from llmos.tasks.params import reading
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
    job: GenerationJob
    index: int
    settings: Sampling
    salt: str
    wake: Callable[[], None] | None = None

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


@dataclass(slots=True, eq=False, weakref_slot=True)
class GenerationJob:
    """A call in progress, with the parts of its answers so far."""

    call: Call
    task: Task
    settings: Settings
    rendered: list[Rendered]
    prompt_tokens: int
    is_over: bool = False
    is_large: bool = False
    made: int = 0
    texts: dict[int, str] = field(default_factory=dict)
    scored: dict[int, list[Json]] = field(default_factory=dict)
    outputs: dict[int, Json] = field(default_factory=dict)

    def take_piece(self, index: int, piece: Delta, *, has_logprobs: bool) -> list[Chunk]:
        """Add a piece of an answer; returns a chunk if the call streams, and the call's last chunk at the end."""
        before = self.texts.get(index, "")
        self.texts[index] = before + piece.text
        self.scored.setdefault(index, []).extend(piece.logprobs)
        self.made += piece.made
        is_end = piece.finish_reason is not None
        if not is_end and not (self.call.stream and piece.text):
            return []
        raw: Json = {"text": self.texts[index], "finish_reason": piece.finish_reason}
        if self.call.stream:
            raw = {"text": piece.text, "finish_reason": piece.finish_reason, "before": before}
        if has_logprobs:
            raw["logprobs"] = self.scored.pop(index)
        output = self.task.parse(raw, self.rendered[index], self.settings, self.call.params)
        if is_end:
            self.outputs[index] = output
        is_last = len(self.outputs) == len(self.rendered)
        if not self.call.stream:
            return [self._last(tuple(self.outputs[i] for i in range(len(self.rendered))))] if is_last else []
        if len(self.rendered) > 1:
            output["index"] = index
        return [self._last((output,)) if is_last else Chunk(self.call.call_id, (output,), is_last=False)]

    def _last(self, outputs: tuple[Json, ...]) -> Chunk:
        self.is_over = True
        return Chunk(self.call.call_id, outputs, tokens=Tokens(self.prompt_tokens, self.made))

    def fail(self, fault: Fault) -> list[Chunk]:
        """End the call with a fault; returns one chunk, or none if it is over already."""
        if self.is_over:
            return []
        self.is_over = True
        return [Chunk(self.call.call_id, fault=fault)]


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


class ExternalGeneration:
    """The calls in progress of a base's engine: answers that wait in order, and answers being generated."""

    def __init__(self, writer: Writer, ref: str, tasks: tuple[str, ...], settings: Settings) -> None:
        self._writer = writer
        self._ref, self._tasks, self._settings = ref, tasks, settings
        self._jobs: dict[int, GenerationJob] = {}
        self._waiting: list[Leg] = []
        self._writing: set[Leg] = set()
        self._heard: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._numbers = count()
        self._turns = PriorityQueue()

    @property
    def is_idle(self) -> bool:
        return not self._jobs

    @property
    def figures(self) -> dict[str, float]:
        """Running and waiting answers, and the share of the KV cache that they may need."""
        live = [leg for leg in self._writing if not leg.is_over]
        held = sum(leg.size for leg in live)
        waiting = sum(not leg.is_over for leg in self._waiting)
        return {"live": len(live), "waiting": waiting, "kv_share": round(held / self._writer.capacity, 3)}

    @property
    def progress(self) -> dict[int, float]:
        return {call_id: len(job.outputs) / len(job.rendered) for call_id, job in self._jobs.items() if job.is_large}

    def take_in(self, call: Call) -> Intake:
        """Take a call in step by step; raises for a call that cannot be answered."""
        if call.model != self._ref:
            raise ModelNotFound(
                f"No model {call.model!r} is attached here. There is: {self._ref}", name=call.model, models=[self._ref]
            )
        if call.task not in self._tasks:
            raise WrongTask(
                f"{self._ref} does {', '.join(self._tasks)} here, not {call.task}. Ask another engine for it: pytorch",
                model=self._ref,
                task=call.task,
                has=list(self._tasks),
            )
        if not call.inputs:
            raise BadInput("The call has no inputs. Send at least one", reason="no_inputs")
        yield
        asked, said = with_params(call.task, call.params), sampling(call.params)
        tokenizer = reading(self._writer.tokenizer, call.params)
        made: list[Rendered] = []
        for some in parts(call.inputs):
            made += render_inputs(asked, some, tokenizer, self._settings, first=len(made))
            yield
        prompt_tokens = sum(len(one.ids) for one in made)
        job = GenerationJob(call, asked, self._settings, [one for one in made for _ in range(said.n)], prompt_tokens)
        job.is_large = len(job.rendered) > MANY
        chosen = []
        for i in range(len(job.rendered)):
            with naming_place(index=i // said.n):
                chosen.append(self._sampling_of(job, i, said))
        return lambda: self._put(job, chosen)

    def add(self, call: Call) -> None:
        """Take a call in at once."""
        whole(self.take_in(call))()

    def _put(self, job: GenerationJob, chosen: list[Sampling]) -> None:
        """Add a call, with the sampling settings of each answer."""
        self._jobs[job.call.call_id] = job
        place, salt = self._turns.enter(job), salt_of(job.call.params)
        for i, settings in enumerate(chosen):
            leg = Leg((place, next(self._numbers)), job, i, settings, salt)
            place += self._turns.step_of(job, leg.size)
            insort(self._waiting, leg, key=lambda leg: leg.place)

    def cancel(self, call_id: int) -> None:
        job = self._jobs.pop(call_id, None)
        if job is not None:
            job.is_over = True
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
        for chunk in chunks:
            if chunk.is_last:
                self._let_go(self._jobs.pop(chunk.call_id))
        return chunks

    def _took(self, leg: Leg, said: Delta | Fault | None) -> list[Chunk]:
        if not isinstance(said, Delta):
            self._writing.discard(leg)
        if said is None or leg.is_over:
            return []
        if isinstance(said, Fault):
            return leg.job.fail(said)
        try:
            return leg.job.take_piece(leg.index, said, has_logprobs=leg.settings.top_logprobs is not None)
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

    def _let_go(self, job: GenerationJob) -> None:
        """Wake the call's generating threads, so that they stop."""
        for leg in self._writing:
            if leg.job is job and leg.wake is not None:
                leg.wake()

    def _sampling_of(self, job: GenerationJob, index: int, said: Sampling) -> Sampling:
        """The request's settings for this answer, with `max_tokens` cut to the room there is."""
        one, room = job.rendered[index], min(self._writer.room, self._writer.capacity)
        settings = with_tool_rule(said, one.context).for_answer(index % said.n)
        self._writer.check(settings)
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
