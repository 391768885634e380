"""A call in progress: its tokenized inputs and the part of the answer made so far."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

from llmos.abi.call import Call, Chunk, Tokens
from llmos.abi.error import Fault, LlmosError, fault_of
from llmos.abi.json_type import Json
from llmos.engines.pytorch.model import ServedModel
from llmos.tasks import Rendered, Task


@dataclass(slots=True, eq=False, weakref_slot=True)
class ActiveCall:
    """One call; `is_over` once its last chunk is made, or nobody waits for it. Each input is there `copies` times."""

    call: Call
    model: ServedModel
    task: Task
    rendered: list[Rendered]
    copies: int = 1
    is_over: bool = False
    is_large: bool = False  # it yields to smaller ones
    completion_tokens: int = 0
    sequences: list[list[int]] = field(default_factory=list)  # what is computed: all inputs' parts, a shared one once
    _places: list[list[int]] = field(default_factory=list)  # of each input, where its sequences stand
    _users: list[set[int]] = field(default_factory=list)  # of each sequence, the inputs that wait for it
    _lacking: list[int] = field(default_factory=list)  # of each input, how many sequences have still to come
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
        """Every input is to be answered so many times."""
        self.copies = times
        self.rendered = [one for one in self.rendered for _ in range(times)]

    @property
    def share(self) -> float:
        """How much of it is computed."""
        return max(len(self._raws) / max(1, len(self.sequences)), len(self._outputs) / len(self.rendered))

    def stream_piece(self, index: int, raw: Json) -> list[Chunk]:
        """A piece of an answer has come for whoever reads along; the last answer's end is the call's."""
        output = self.parse(index, raw)
        if len(self.rendered) > 1:
            output["index"] = index
        if raw["finish_reason"] is not None:
            self._outputs[index] = output
        if len(self._outputs) < len(self.rendered):
            return [Chunk(self.call.call_id, (output,), is_last=False)]
        return [self.last((output,))]

    def put_answer(self, index: int, raw: Json) -> list[Chunk]:
        """One input's raw answer has come; the last one to come makes the call's chunk."""
        self._outputs[index] = self.parse(index, raw)
        return self._whole()

    def put(self, at: int, raw: Json) -> list[Chunk]:
        """One sequence's raw answer has come. An input that has all of its own is parsed; the last makes the chunk."""
        if self.is_over:  # it was computed while the call was cancelled
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
        return self.task.parse(raw, self.rendered[index], self.model.settings, self.call.params)

    def last(self, outputs: tuple[Json, ...]) -> Chunk:
        self.is_over = True
        prompt = sum(map(len, self.sequences))
        return Chunk(self.call.call_id, outputs, tokens=Tokens(prompt, self.completion_tokens))

    def fail(self, fault: Fault) -> list[Chunk]:
        """The call's end by a fault, said once."""
        if self.is_over:
            return []
        self.is_over = True
        return [Chunk(self.call.call_id, fault=fault)]


def log_fault(error: Exception) -> Fault:
    """What those who wait learn of it; of one that is not ours, the process's log keeps where it came from."""
    if not isinstance(error, LlmosError):
        traceback.print_exception(error)
    return fault_of(error)
