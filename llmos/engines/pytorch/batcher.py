"""Batches single-pass inputs (embeddings, classification) into packed rows, one per core.

Rows are small, so that another row is queued when a core finishes: answered clients send again at once.
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
from llmos.engines.active_call import log_fault
from llmos.engines.priority import PriorityQueue
from llmos.engines.pytorch.model import ServedCall, applying_adapters, no_number
from llmos.nn.packing import forward, pack, pool
from llmos.tasks.embed import is_unit

LARGE = 2048  # tokens: a larger call yields to smaller ones
LEAST_PART = 256  # tokens: a shorter row costs more per token than a longer one
MOST_PART = 1024  # tokens: a longer row is no faster per token, and the next call waits longer for it
LARGE_ROW_S = 0.1  # the longest time for a row of a large call: a new call waits for that row and one more
AHEAD = 2  # split the queue into this many rows per core, but none below LEAST_PART
Raw = Any  # Any: a vector's bytes, or logits as lists; what the task parses


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence of a call; `place` orders them by turn, then by arrival."""

    job: ServedCall
    index: int
    place: tuple[float, int]

    @property
    def ids(self) -> list[int]:
        return self.job.sequences[self.index]


Queue = list[tuple[tuple[float, int], Item]]  # a heap, by place


class Batcher:
    """The queue of sequences for single-pass inference, in order of their turns."""

    def __init__(self, token_budget: int) -> None:
        self._token_budget = token_budget
        self._most = token_budget  # tokens of one row
        self._cores = CoreExecutor(1)
        self._turns = PriorityQueue()
        self._waiting: dict[tuple[int, int], Queue] = {}
        self._tokens = 0  # queued tokens
        self._sequences = 0

    def __bool__(self) -> bool:
        return self._first() is not None or self._cores.busy > 0

    @property
    def pace(self) -> float | None:
        """The recent speed of one core, in tokens per second."""
        return self._cores.pace

    def spread(self, cores: int) -> None:
        """Compute rows side by side on this many CPU cores from now on."""
        self._cores = CoreExecutor(cores)
        self._most = min(self._token_budget, MOST_PART)

    def add(self, job: ServedCall) -> None:
        group = self._waiting.setdefault(job.model.group, [])
        job.is_large = sum(map(len, job.sequences)) > LARGE
        place = self._turns.enter(job)
        for index, ids in enumerate(job.sequences):
            self._push(group, Item(job, index, (place, self._sequences)))
            self._sequences += 1
            place += self._turns.step_of(job, len(ids))

    def step(self) -> list[Chunk]:
        """Give each core a row, and one core a second one; return the chunks of the rows that finish first."""
        size = self._most
        if (cores := self._cores.count) > 1:
            size = min(max(self._tokens // (AHEAD * cores), LEAST_PART), self._most)
        self._start(self._cores.room, size, self._token_budget)
        return _deliver(self._cores.wait_done())

    def share(self, tokens: int) -> list[Chunk]:
        """As `step`, for a step shared with generation: about `tokens` tokens, and all cores are idle at its return."""
        chunks = _deliver(self._cores.wait_done(is_all=True))
        self._start(self._cores.count, max(tokens // self._cores.count, LEAST_PART), tokens)
        return chunks + _deliver(self._cores.wait_done(is_all=True))

    def _start(self, count: int, size: int, most: int) -> None:
        """Start at most `count` rows of at least `size` tokens each, from the first `most` tokens of the queue.

        Small calls get rows of their own, which are soon done.
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
        """Take the group's first inputs, up to `most` tokens; none of a large call behind small ones."""
        chosen: list[Item] = []
        tokens = 0
        while self._live(group) and (not chosen or tokens + len(group[0][-1].ids) <= most):
            if chosen and group[0][-1].job.is_large and not chosen[-1].job.is_large:
                break
            chosen.append(self._pop(group))
            tokens += len(chosen[-1].ids)
        return chosen

    def _live(self, group: Queue) -> bool:
        """Whether the group has an input that is still wanted; cancelled ones in front of it are removed."""
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
    """The row size for a large call, at most `size`: the tokens that take LARGE_ROW_S at this pace, or the least if
    unknown."""
    return min(size, max(LEAST_PART, int((pace or 0.0) * LARGE_ROW_S)))


def _rows(items: list[Item], size: int) -> list[list[Item]]:
    """Cut the items into rows, grouped by adapter; the row with the first turn comes first."""
    if len({item.job.model.place for item in items}) > 1:
        items.sort(key=lambda item: (item.job.model.place, item.place))
    rows = parts(items, max(1, sum(len(item.ids) for item in items) // size))
    return sorted(rows, key=lambda row: min(item.place for item in row))


def parts(items: list[Item], count: int) -> list[list[Item]]:
    """Cut the items into at most `count` non-empty parts of about equally many tokens."""
    lengths = [len(item.ids) for item in items]
    middles = [2 * end - length for end, length in zip(accumulate(lengths), lengths, strict=True)]
    places = [middle * count // (2 * sum(lengths)) for middle in middles]
    return [[items[i] for i in some] for _, some in groupby(range(len(items)), key=places.__getitem__)]


class CoreExecutor:
    """A thread per CPU core, each with a row: threads that share one pass wait for each other at every product.

    With a count of 1 it is one device, used from the calling thread.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(count, "row", torch.set_num_threads, (1,)) if count > 1 else None
        self._rows: dict[Future[Tensor], list[Item]] = {}
        self.pace: float | None = None  # the recent speed of one core, in tokens per second

    @property
    def busy(self) -> int:
        """The number of rows in progress."""
        return len(self._rows)

    @property
    def room(self) -> int:
        """How many more rows can start: one per core, and one in reserve for the core that finishes first."""
        return self.count + (self.count > 1) - self.busy

    def start(self, items: list[Item], *, is_alone: bool) -> None:
        """Start a row. A row alone is computed before this returns, unless others are in progress."""
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
        if tokens >= LEAST_PART:  # the time of a shorter row says little about its tokens
            pace = tokens / max(perf_counter() - started, 1e-6)
            self.pace = pace if self.pace is None else (3 * self.pace + pace) / 4
        return hidden

    def wait_done(self, *, is_all: bool = False) -> list[tuple[list[Item], Future[Tensor]]]:
        """Wait for the first row to finish, or for all."""
        found = wait(self._rows, return_when=FIRST_COMPLETED).done if not is_all else wait(self._rows).done
        return [(self._rows.pop(one), one) for one in list(self._rows) if one in found]


def _deliver(rows: Sequence[tuple[list[Item], Future[Tensor]]]) -> list[Chunk]:
    """The chunks of finished rows; a fault of a row ends every call in it."""
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
    sequences = [(*item.job.model.loaded.virtual_ids, *item.ids) for item in items]
    row = pack(sequences, loaded.device)
    with applying_adapters((item.job.model, len(ids)) for item, ids in zip(items, sequences, strict=True)):
        return forward(loaded.backbone, row)


def _answers(items: list[Item], hidden: Tensor) -> Iterator[Chunk]:
    """Each model's output layer over its slice of the row."""
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
    """The raw answers that tasks parse, from the hidden states; None for one that is not finite."""
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
