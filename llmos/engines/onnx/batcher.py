"""Batches inputs for a graph: up to a token budget, as padded rectangles of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from llmos.abi.call import Call, Chunk, Tokens
from llmos.abi.error import Fault
from llmos.abi.json_type import Json
from llmos.engines.priority import PriorityQueue
from llmos.tasks import Rendered, Settings, Task

LARGE = 2048  # tokens: a call with more yields to smaller ones
STEP = 1024  # tokens of a step beside a large call: who comes meanwhile waits no longer than it takes
FULL = 0.75  # of a rectangle's longest row the shortest has at least so much: padding is computed too


@dataclass(slots=True, eq=False, weakref_slot=True)
class OnnxJob:
    """One call; `is_over` once its chunk is made, or nobody waits for it. What inputs share is there once."""

    call: Call
    task: Task
    settings: Settings
    rendered: list[Rendered]
    is_over: bool = False
    is_large: bool = False
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

    @property
    def share(self) -> float:
        """How much of it is computed."""
        return len(self._raws) / len(self.sequences)

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

    def fail(self, fault: Fault) -> list[Chunk]:
        """The call's end by a fault, said once."""
        if self.is_over:
            return []
        self.is_over = True
        return [Chunk(self.call.call_id, fault=fault)]


@dataclass(frozen=True, slots=True)
class OnnxItem:
    """One sequence of a call."""

    job: OnnxJob
    at: int

    @property
    def ids(self) -> list[int]:
        return self.job.sequences[self.at]


class OnnxBatcher:
    """What waits, by whose turn it is."""

    def __init__(self, token_budget: int) -> None:
        self._token_budget = token_budget
        self._waiting: list[tuple[float, int, OnnxItem]] = []  # a heap
        self._turns = PriorityQueue()
        self._sequences = 0

    def add(self, job: OnnxJob) -> None:
        job.is_large = sum(map(len, job.sequences)) > LARGE
        place = self._turns.enter(job)
        for at, ids in enumerate(job.sequences):
            heappush(self._waiting, (place, self._sequences, OnnxItem(job, at)))
            self._sequences += 1
            place += self._turns.step_of(job, len(ids))

    def next(self) -> list[OnnxItem]:
        """Those whose turn it is that somebody still waits for, up to the budget; none of a large call behind small
        ones, which are soon done."""
        chosen: list[tuple[OnnxJob, float, int]] = []
        items: list[OnnxItem] = []
        tokens = 0
        while self._waiting:
            place, _, item = self._waiting[0]
            if item.job.is_over:
                heappop(self._waiting)
                continue
            tokens += len(item.ids)
            most = min(self._token_budget, STEP) if item.job.is_large else self._token_budget
            if items and (tokens > most or (item.job.is_large and not items[-1].job.is_large)):
                break
            heappop(self._waiting)
            items.append(item)
            chosen.append((item.job, place, len(item.ids)))
        self._turns.start_row(chosen)
        return items


def rectangles(items: Sequence[OnnxItem], most: int | None, *, is_exact: bool, budget: int) -> Iterator[list[OnnxItem]]:
    """The items by length, in pieces that waste little on padding: none where it must be exact, at most so many each,
    and padded within the budget."""
    piece: list[OnnxItem] = []
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
