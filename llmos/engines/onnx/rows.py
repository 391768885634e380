"""Inputs that wait for a graph: taken oldest first up to a budget, and run as rectangles of about equal length."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmos.abi.call import Call, Chunk, Tokens
from llmos.abi.error import Fault
from llmos.tasks import Rendered, Settings, Task

Json = Any  # Any: raw outputs and answers, which belong to the task

FULL = 0.75  # of a rectangle's longest row the shortest has at least so much: padding is computed too


@dataclass(slots=True, eq=False)
class Job:
    """One call; `is_over` once its chunk is made, or nobody waits for it. What inputs share is there once."""

    call: Call
    task: Task
    settings: Settings
    rendered: list[Rendered]
    is_over: bool = False
    sequences: list[list[int]] = field(default_factory=list)
    _places: list[list[int]] = field(default_factory=list)  # of each input, where its sequences stand
    _raws: dict[int, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: dict[int, int] = {}
        for one in self.rendered:
            self._places.append([seen.setdefault(id(ids), len(seen)) for ids in one.sequences])
            for at, ids in zip(self._places[-1], one.sequences, strict=True):
                if at == len(self.sequences):
                    self.sequences.append(ids)

    def put(self, at: int, raw: Json) -> list[Chunk]:
        """One sequence's raw answer has come; the last to come makes the call's chunk."""
        self._raws[at] = raw
        if self.is_over or len(self._raws) < len(self.sequences):
            return []
        outputs = []
        for one, places in zip(self.rendered, self._places, strict=True):
            raws = [self._raws[place] for place in places]
            outputs.append(self.task.parse(raws if one.parts else raws[0], one, self.settings, self.call.params))
        self.is_over = True
        return [Chunk(self.call.call_id, tuple(outputs), tokens=Tokens(sum(map(len, self.sequences))))]

    def failed(self, fault: Fault) -> list[Chunk]:
        """The call's end by a fault, said once."""
        if self.is_over:
            return []
        self.is_over = True
        return [Chunk(self.call.call_id, fault=fault)]


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence of a call."""

    job: Job
    at: int

    @property
    def ids(self) -> list[int]:
        return self.job.sequences[self.at]


class Rows:
    """What waits, oldest first."""

    def __init__(self, token_budget: int) -> None:
        self._token_budget = token_budget
        self._waiting: deque[Item] = deque()

    def add(self, job: Job) -> None:
        self._waiting.extend(Item(job, at) for at in range(len(job.sequences)))

    def next(self) -> list[Item]:
        """The oldest that somebody still waits for, and those behind it, up to the budget."""
        chosen: list[Item] = []
        tokens = 0
        while self._waiting:
            item = self._waiting[0]
            if not item.job.is_over:
                tokens += len(item.ids)
                if chosen and tokens > self._token_budget:
                    break
                chosen.append(item)
            self._waiting.popleft()
        return chosen


def rectangles(items: Sequence[Item], most: int | None, *, is_exact: bool, budget: int) -> Iterator[list[Item]]:
    """The items by length, in pieces that waste little on padding: none where it must be exact, at most so many each,
    and padded within the budget."""
    piece: list[Item] = []
    for item in sorted(items, key=lambda item: -len(item.ids)):
        longest = len(piece[0].ids) if piece else 0
        fits = len(item.ids) == longest if is_exact else len(item.ids) >= FULL * longest
        is_full = len(piece) == most or longest * (len(piece) + 1) > budget
        if piece and (not fits or is_full):
            yield piece
            piece = []
        piece.append(item)
    if piece:
        yield piece
