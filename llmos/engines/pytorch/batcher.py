"""Batches single-pass inputs (embeddings, classification) into packed rows, one per core.

Rows are so small that something still waits when a core is done: who was answered asks again meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate, chain, groupby
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from llmos.abi.call import Chunk
from llmos.abi.error import fault_of
from llmos.engines.priority import PriorityQueue
from llmos.engines.pytorch.active_call import ActiveCall, log_fault
from llmos.engines.pytorch.model import applying_adapters, no_number
from llmos.nn.packing import forward, pack, pool
from llmos.tasks.embed import is_unit

LARGE = 2048  # tokens: a call with more yields to smaller ones
LEAST_PART = 256  # tokens: a shorter row is no faster than its share of a longer one
MOST_PART = 1024  # a longer one is no faster either, and who comes next waits for it
LARGE_ROW_S = 0.1  # that a row of a large call may take: who comes meanwhile waits for that and for one more
AHEAD = 2  # so many rows a core is what waits cut into, unless that makes them too short
Raw = Any  # Any: bytes of a vector, or logits as lists; what the task's parse takes


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence of a call; `place` orders them: whose turn it is, in the order of arrival where that is equal."""

    job: ActiveCall
    index: int
    place: tuple[float, int]

    @property
    def ids(self) -> list[int]:
        return self.job.sequences[self.index]


Queue = list[tuple[tuple[float, int], Item]]  # a heap, by place


class Batcher:
    """What waits for a forward pass, by whose turn it is."""

    def __init__(self, token_budget: int) -> None:
        self._token_budget = token_budget
        self._most = token_budget  # of one row
        self._cores = CoreExecutor(1)
        self._turns = PriorityQueue()
        self._waiting: dict[tuple[int, int], Queue] = {}
        self._tokens = 0  # that wait
        self._sequences = 0

    def __bool__(self) -> bool:
        return self._first() is not None or self._cores.busy > 0

    @property
    def pace(self) -> float | None:
        """Tokens that one core computes in a second, of late."""
        return self._cores.pace

    def spread(self, cores: int) -> None:
        """From now on rows are computed side by side on so many cores of a CPU."""
        self._cores = CoreExecutor(cores)
        self._most = min(self._token_budget, MOST_PART)

    def add(self, job: ActiveCall) -> None:
        group = self._waiting.setdefault(job.model.group, [])
        job.is_large = sum(map(len, job.sequences)) > LARGE
        place = self._turns.enter(job)
        for index, ids in enumerate(job.sequences):
            self._push(group, Item(job, index, (place, self._sequences)))
            self._sequences += 1
            place += self._turns.step_of(job, len(ids))

    def step(self) -> list[Chunk]:
        """Give each core a row, and one to go on with, and answer what is done first."""
        size = self._most
        if (cores := self._cores.count) > 1:
            size = min(max(self._tokens // (AHEAD * cores), LEAST_PART), self._most)
        self._start(self._cores.room, size, self._token_budget)
        return _deliver(self._cores.wait_done())

    def share(self, tokens: int) -> list[Chunk]:
        """As `step`, for a step that others share: about so many tokens, and no core computes when it returns."""
        chunks = _deliver(self._cores.wait_done(is_all=True))
        self._start(self._cores.count, max(tokens // self._cores.count, LEAST_PART), tokens)
        return chunks + _deliver(self._cores.wait_done(is_all=True))

    def _start(self, count: int, size: int, most: int) -> None:
        """At most so many rows of no fewer than `size` tokens each, of the first `most` that wait; the rest waits on.

        Small calls have rows of their own, which are soon done.
        """
        rows: list[list[Item]] = []
        while len(rows) < count and most > 0 and (group := self._first()) is not None:
            items = self._next(group, most)
            cut = _rows(items, short(size, self._cores.pace) if items[-1].job.is_large else size)
            for item in chain.from_iterable(cut[count - len(rows) :]):
                self._push(group, item)
            rows += cut[: count - len(rows)]
            most -= sum(len(item.ids) for item in chain.from_iterable(cut))
        for row in rows:
            self._turns.start_row((item.job, item.place[0], len(item.ids)) for item in row)
            row.sort(key=lambda item: (item.job.model.place, len(item.ids)))  # the order that computes fastest
            self._cores.start(row, is_alone=len(rows) == 1)

    def _first(self) -> Queue | None:
        """The group whose turn it is."""
        for key in [key for key, group in self._waiting.items() if not self._live(group)]:
            del self._waiting[key]
        return min(self._waiting.values(), key=lambda group: group[0][0], default=None)

    def _next(self, group: Queue, most: int) -> list[Item]:
        """The group's first input and those behind it, up to so many tokens; none of a large call behind small ones."""
        chosen: list[Item] = []
        tokens = 0
        while self._live(group) and (not chosen or tokens + len(group[0][-1].ids) <= most):
            if chosen and group[0][-1].job.is_large and not chosen[-1].job.is_large:
                break
            chosen.append(self._pop(group))
            tokens += len(chosen[-1].ids)
        return chosen

    def _live(self, group: Queue) -> bool:
        """Whether the group has an input that someone still waits for; those in front of it are let go."""
        while group and group[0][-1].job.is_over:
            self._pop(group)
        return bool(group)

    def _push(self, group: Queue, item: Item) -> None:
        heappush(group, (item.place, item))
        self._tokens += len(item.ids)

    def _pop(self, group: Queue) -> Item:
        _, item = heappop(group)
        self._tokens -= len(item.ids)
        return item


def short(size: int, pace: float | None) -> int:
    """The tokens of a large call's row, no more than `size`: so many as a core computes in time at this pace, few while
    none is known."""
    return min(size, max(LEAST_PART, int((pace or 0.0) * LARGE_ROW_S)))


def _rows(items: list[Item], size: int) -> list[list[Item]]:
    """The items as rows: those of an adapter stand side by side, and the row of whose turn it is comes first."""
    if len({item.job.model.place for item in items}) > 1:
        items.sort(key=lambda item: (item.job.model.place, item.place))
    rows = parts(items, max(1, sum(len(item.ids) for item in items) // size))
    return sorted(rows, key=lambda row: min(item.place for item in row))


def parts(items: list[Item], count: int) -> list[list[Item]]:
    """The items in at most so many pieces of about equally many tokens, none of them empty."""
    lengths = [len(item.ids) for item in items]
    middles = [2 * end - length for end, length in zip(accumulate(lengths), lengths, strict=True)]
    places = [middle * count // (2 * sum(lengths)) for middle in middles]
    return [[items[i] for i in some] for _, some in groupby(range(len(items)), key=places.__getitem__)]


class CoreExecutor:
    """The cores of a CPU, each with a row: threads that share one pass wait at every product. Else it is one device."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(count, "row", torch.set_num_threads, (1,)) if count > 1 else None
        self._rows: dict[Future[Tensor], list[Item]] = {}
        self.pace: float | None = None  # tokens that one computes in a second, of late

    @property
    def busy(self) -> int:
        """Rows under way."""
        return len(self._rows)

    @property
    def room(self) -> int:
        """How many more rows keep the cores busy until someone looks again: one each, and one for who is done first."""
        return self.count + (self.count > 1) - self.busy

    def start(self, items: list[Item], *, is_alone: bool) -> None:
        """Compute a row; one that is alone is done when this returns, unless others are under way."""
        if self._threads is not None and (self._rows or not is_alone):
            self._rows[self._threads.submit(self._compute, items)] = items
            return
        done: Future[Tensor] = Future()
        try:
            done.set_result(self._compute(items))
        except Exception as error:  # noqa: BLE001  as a thread would hold it, for whoever asks for the result
            done.set_exception(error)
        self._rows[done] = items

    def _compute(self, items: list[Item]) -> Tensor:
        started = perf_counter()
        hidden = _hidden_states(items)
        tokens = sum(len(item.ids) for item in items)
        if tokens >= LEAST_PART:  # of a shorter one most of the time is no matter of tokens
            pace = tokens / max(perf_counter() - started, 1e-6)
            self.pace = pace if self.pace is None else (3 * self.pace + pace) / 4
        return hidden

    def wait_done(self, *, is_all: bool = False) -> list[tuple[list[Item], Future[Tensor]]]:
        """Wait for a row, or for all that are under way."""
        found = wait(self._rows, return_when=FIRST_COMPLETED).done if not is_all else wait(self._rows).done
        return [(self._rows.pop(one), one) for one in list(self._rows) if one in found]


def _deliver(rows: Sequence[tuple[list[Item], Future[Tensor]]]) -> list[Chunk]:
    """What the rows are to those who wait; a fault is the answer to every call in one."""
    chunks: list[Chunk] = []
    for items, hidden in rows:
        try:
            chunks += _answers(items, hidden.result())
        except Exception as error:  # noqa: BLE001  the top of a loop: whatever it was, those who wait learn of it
            chunks += [chunk for item in items for chunk in item.job.fail(log_fault(error))]
    return chunks


@torch.inference_mode()
def _hidden_states(items: list[Item]) -> Tensor:
    loaded = items[0].job.model.loaded
    row = pack([item.ids for item in items], loaded.device)
    with applying_adapters((item.job.model, len(item.ids)) for item in items):
        return forward(loaded.backbone, row)


def _answers(items: list[Item], hidden: Tensor) -> Iterator[Chunk]:
    """Each model's own output layer over its slice of the row."""
    start = 0
    for _, some in groupby(items, key=lambda item: item.job.model.ref):
        mine = list(some)
        end = start + sum(len(item.ids) for item in mine)
        raws = _raws(mine, hidden[start:end])
        for item, raw in zip(mine, raws, strict=True):
            if raw is None:
                yield from item.job.fail(fault_of(no_number(item.job.model.ref)))
                continue
            try:
                yield from item.job.put(item.index, raw)
            except Exception as error:  # noqa: BLE001  one call's fault, whatever it was, is no neighbour's
                yield from item.job.fail(log_fault(error))
        start = end


def _raws(items: list[Item], hidden: Tensor) -> Sequence[Raw | None]:
    """What each input's task parses, from its model's slice of the hidden states; None for what is not a number."""
    model = items[0].job.model
    lengths = [len(item.ids) for item in items]
    made = pool(hidden, lengths, model.pooling) if model.head is None else model.head(hidden, lengths)
    per_input = made.split(lengths) if items[0].job.task.spec.head == "token" else made
    raws: list[Raw] = [*_vectors(items, made)] if model.head is None else [one.tolist() for one in per_input]
    if bool(made.isfinite().all()):
        return [*raws]
    return [raw if bool(one.isfinite().all()) else None for raw, one in zip(raws, per_input, strict=True)]


def _vectors(items: list[Item], pooled: Tensor) -> list[bytes]:
    units = normalize(pooled, dim=-1)
    wanted = torch.tensor(
        [
            not item.job.task.spec.gives_vectors or is_unit(item.job.model.settings, item.job.call.params)
            for item in items
        ]
    )
    vectors = torch.where(wanted.to(pooled.device)[:, None], units, pooled).cpu().numpy().astype("<f4", copy=False)
    return [vector.tobytes() for vector in vectors]
