"""Calls in hand: their tokenized inputs, and the part of each answer made so far."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from llmos.abi.call import Call, CallTimes, Chunk, Tokens
from llmos.abi.error import Fault, LlmosError, fault_of
from llmos.abi.json_type import Json
from llmos.tasks import Rendered, Settings, Task


@dataclass(slots=True, eq=False, weakref_slot=True)
class ActiveCall:
    """One call; `is_over` once its last chunk is made or it was cancelled. Each input is rendered `copies` times.

    `unknown_in` counts the tokens of a sequence that the vocabulary lacks, where the tokenizer can say so.
    """

    call: Call
    task: Task
    settings: Settings
    rendered: list[Rendered]
    copies: int = 1
    is_over: bool = False
    is_large: bool = False  # it yields to smaller ones
    completion_tokens: int = 0
    made_at: float = field(default_factory=perf_counter)
    began_at: float | None = None  # when its first pass began
    parse_s: float = 0.0
    unknown_in: Callable[[Sequence[int]], int] | None = None
    sequences: list[list[int]] = field(default_factory=list)  # the sequences of all inputs' parts; shared ones once
    _places: list[list[int]] = field(default_factory=list)  # for each input, the indices of its sequences
    _users: list[set[int]] = field(default_factory=list)  # for each sequence, the inputs that need it
    _lacking: list[int] = field(default_factory=list)  # for each input, how many of its sequences are still missing
    _raws: dict[int, Json] = field(default_factory=dict)
    _outputs: dict[int, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: dict[int, int] = {}
        for index, one in enumerate(self.rendered):
            places = [seen.setdefault(id(ids), len(seen)) for ids in one.sequences]
            self._places.append(places)
            self._lacking.append(len(set(places)))
            for at, ids in zip(places, one.sequences, strict=True):
                if at == len(self.sequences):
                    self.sequences.append(ids)
                    self._users.append(set())
                self._users[at].add(index)

    def repeat(self, times: int) -> None:
        """Answer every input this many times."""
        self.copies = times
        self.rendered = [one for one in self.rendered for _ in range(times)]

    @property
    def share(self) -> float:
        """The finished share of the call."""
        return max(len(self._raws) / max(1, len(self.sequences)), len(self._outputs) / len(self.rendered))

    def put_text(
        self,
        index: int,
        text: str,
        new: str,
        reason: str | None,
        logprobs: Callable[[], list[Json]] | None,
        stop: str | None = None,
    ) -> list[Chunk]:
        """One input's answer has become this text, by what is `new`; `reason` is set at its end.

        Who reads along gets each piece in a chunk; else the answer that comes last makes the call's. `logprobs` gives
        those that were not said yet; None where nobody asked. `stop` is the stop string that ended it, where the engine
        knows.
        """
        if reason is None and not (self.call.stream and new):
            return []
        raw: Json = {"text": new if self.call.stream else text, "finish_reason": reason}
        if self.call.stream:
            raw["before"] = text[: len(text) - len(new)]
        if logprobs is not None:
            raw["logprobs"] = logprobs()
        if stop is not None:
            raw["stop"] = stop
        output = self.parse(index, raw)
        if reason is not None:
            self._outputs[index] = output
        if not self.call.stream:
            return self._whole()
        if len(self.rendered) > 1:
            output["index"] = index
        if len(self._outputs) < len(self.rendered):
            return [Chunk(self.call.call_id, (output,), is_last=False)]
        return [self.last((output,))]

    def put(self, at: int, raw: Json) -> list[Chunk]:
        """Add one sequence's raw answer.

        An input with all of its sequences is parsed; the last input makes the chunk.
        """
        if self.is_over:  # cancelled while it was computed
            return []
        self._raws[at] = raw
        for index in self._users[at]:
            self._lacking[index] -= 1
            if not self._lacking[index]:
                raws = [self._raws[place] for place in self._places[index]]
                self._outputs[index] = self.parse(index, raws if self.rendered[index].parts else raws[0])
        return self._whole()

    def _whole(self) -> list[Chunk]:
        if len(self._outputs) < len(self.rendered):
            return []
        return [self.last(tuple(self._outputs[i] for i in range(len(self.rendered))))]

    def parse(self, index: int, raw: Json) -> Json:
        started = perf_counter()
        output = self.task.parse(raw, self.rendered[index], self.settings, self.call.params)
        self.parse_s += perf_counter() - started
        return output

    def last(self, outputs: tuple[Json, ...]) -> Chunk:
        self.is_over = True
        prompt = sum(map(len, self.sequences))
        by_input = self.rendered if len(self.rendered) == len(outputs) else ()
        sizes = tuple(sum(map(len, one.sequences)) for one in by_input)
        tokens, unknown = Tokens(prompt, self.completion_tokens), self._unknown(by_input)
        return Chunk(self.call.call_id, outputs, tokens=tokens, times=self._times(), sizes=sizes, unknown=unknown)

    def _unknown(self, by_input: Sequence[Rendered]) -> tuple[int, ...]:
        """The tokens of each input that the vocabulary lacks; nothing where no input has any."""
        if self.unknown_in is None or not any(map(self.unknown_in, self.sequences)):
            return ()
        return tuple(sum(map(self.unknown_in, one.sequences)) for one in by_input)

    def _times(self) -> CallTimes:
        """The stages that are known here."""
        began_at = self.made_at if self.began_at is None else self.began_at
        compute_s = perf_counter() - began_at - self.parse_s
        return CallTimes(batch_s=began_at - self.made_at, compute_s=compute_s, parse_s=self.parse_s)

    def fail(self, fault: Fault) -> list[Chunk]:
        """End the call with a fault; returns one chunk, or none if it is over already."""
        if self.is_over:
            return []
        self.is_over = True
        return [Chunk(self.call.call_id, fault=fault)]


class ActiveCalls:
    """The calls that an engine has in hand, by id."""

    def __init__(self) -> None:
        self._calls: dict[int, ActiveCall] = {}

    def __iter__(self) -> Iterator[ActiveCall]:
        return iter(self._calls.values())

    def __bool__(self) -> bool:
        return bool(self._calls)

    def put(self, job: ActiveCall) -> None:
        """It is in hand from now on."""
        self._calls[job.call.call_id] = job

    def cancel(self, call_id: int) -> ActiveCall | None:
        """Nobody waits for this call: it is over, if it was in hand."""
        job = self._calls.pop(call_id, None)
        if job is not None:
            job.is_over = True
        return job

    def end(self, chunks: Iterable[Chunk]) -> list[ActiveCall]:
        """Let go of the calls whose last chunks are among these."""
        return [self._calls.pop(chunk.call_id) for chunk in chunks if chunk.is_last]

    @property
    def progress(self) -> dict[int, float]:
        """How much of each large call is done, from 0 to 1."""
        return {call_id: job.share for call_id, job in self._calls.items() if job.is_large}


def log_fault(error: Exception) -> Fault:
    """The fault for the clients; for an unexpected error the traceback goes to the process's log."""
    if not isinstance(error, LlmosError):
        traceback.print_exception(error)
    return fault_of(error)
