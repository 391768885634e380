"""Inputs that take one forward pass: they wait in groups that can share a row, and leave as rows of a token budget."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate, count, groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from llmos.abi.call import Chunk
from llmos.abi.error import LlmosError, fault_of
from llmos.engines.pytorch.job import Job
from llmos.engines.pytorch.model import adapted
from llmos.engines.turns import BEHIND, TURN
from llmos.nn.pack import forward, pack, pool
from llmos.tasks.embed import is_unit

LEAST_PART = 256  # tokens: a shorter part is no faster than its share of one pass
Raw = Any  # Any: bytes of a vector, or logits as lists; what the task's parse takes


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence of a call."""

    job: Job
    index: int

    @property
    def ids(self) -> list[int]:
        return self.job.sequences[self.index]


Queue = list[tuple[int, int, Item]]  # a heap: whose turn it is, in the order of arrival where that is equal


class Rows:
    """What waits for a forward pass: calls in order, of one with many sequences some at each turn."""

    def __init__(self, token_budget: int) -> None:
        self._token_budget = token_budget
        self._cores = Cores(1)
        self._waiting: dict[tuple[int, int], Queue] = {}
        self._calls, self._sequences = count(), count()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def spread(self, cores: int) -> None:
        """From now on a long row is computed in as many parts as there are cores."""
        self._cores = Cores(cores)

    def add(self, job: Job) -> None:
        group = self._waiting.setdefault(job.model.group, [])
        place = next(self._calls) + BEHIND[job.call.klass]
        for index in range(len(job.sequences)):
            heappush(group, (place + index // TURN, next(self._sequences), Item(job, index)))

    def step(self) -> list[Chunk]:
        """Compute one row, of the group whose turn it is; a fault is the answer to every call in it."""
        items = self._next()
        if not items:
            return []
        chunks: list[Chunk] = []
        try:
            chunks += _answers(items, self._cores.hidden(items))
        except Exception as error:  # noqa: BLE001  the top of a loop: whatever it was, those who wait learn of it
            chunks += [chunk for item in items for chunk in item.job.failed(fault_of(error))]
        return chunks

    def _next(self) -> list[Item]:
        """The first input and those behind it in its group, up to the budget, in the order that computes fastest."""
        for key in [key for key, group in self._waiting.items() if not _live(group)]:
            del self._waiting[key]
        if not self._waiting:
            return []
        group = min(self._waiting.values(), key=lambda group: group[0][:2])
        chosen: list[Item] = []
        tokens = 0
        while _live(group) and (not chosen or tokens + len(group[0][-1].ids) <= self._token_budget):
            chosen.append(heappop(group)[-1])
            tokens += len(chosen[-1].ids)
        return sorted(chosen, key=lambda item: (item.job.model.place, len(item.ids)))


def _live(group: Queue) -> bool:
    """Whether the group has an input that someone still waits for; those in front of it are let go."""
    while group and group[0][-1].job.is_over:
        heappop(group)
    return bool(group)


class Cores:
    """The cores of a CPU, each computing a part of a long row: threads that share one pass wait at every product."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads = ThreadPoolExecutor(count, "row", torch.set_num_threads, (1,)) if count > 1 else None

    def hidden(self, items: list[Item]) -> Tensor:
        """The last hidden states of a row, [T, hidden]."""
        tokens = sum(len(item.ids) for item in items)
        if self._threads is None or tokens < self._count * LEAST_PART or len(items) < self._count:
            return _hidden(items)
        return torch.cat(list(self._threads.map(_hidden, parts(items, self._count))))


def parts(items: list[Item], count: int) -> list[list[Item]]:
    """The row in at most so many pieces of about equally many tokens, none of them empty."""
    lengths = [len(item.ids) for item in items]
    middles = [2 * end - length for end, length in zip(accumulate(lengths), lengths, strict=True)]
    places = [middle * count // (2 * sum(lengths)) for middle in middles]
    return [[items[i] for i in some] for _, some in groupby(range(len(items)), key=places.__getitem__)]


@torch.inference_mode()
def _hidden(items: list[Item]) -> Tensor:
    loaded = items[0].job.model.loaded
    row = pack([item.ids for item in items], loaded.device)
    with adapted((item.job.model, len(item.ids)) for item in items):
        return forward(loaded.backbone, row)


def _answers(items: list[Item], hidden: Tensor) -> Iterator[Chunk]:
    """Each model's own output layer over its slice of the row."""
    start = 0
    for _, some in groupby(items, key=lambda item: item.job.model.ref):
        mine = list(some)
        end = start + sum(len(item.ids) for item in mine)
        raws = _raws(mine, hidden[start:end])
        for item, raw in zip(mine, raws, strict=True):
            try:
                yield from item.job.put(item.index, raw)
            except LlmosError as error:  # its own parameters were wrong; its neighbours' may be right
                yield from item.job.failed(fault_of(error))
        start = end


def _raws(items: list[Item], hidden: Tensor) -> list[Raw]:
    """What each input's task parses, from its model's slice of the hidden states."""
    model = items[0].job.model
    lengths = [len(item.ids) for item in items]
    if model.head is None:
        return _vectors(items, pool(hidden, lengths, model.pooling))
    logits = model.head(hidden, lengths)
    per_input = logits.split(lengths) if items[0].job.task.head == "token" else logits
    return [one.tolist() for one in per_input]


def _vectors(items: list[Item], pooled: Tensor) -> list[bytes]:
    units = normalize(pooled, dim=-1)
    wanted = torch.tensor(
        [item.job.task.name != "embed" or is_unit(item.job.model.settings, item.job.call.params) for item in items]
    )
    vectors = torch.where(wanted.to(pooled.device)[:, None], units, pooled).cpu().numpy().astype("<f4", copy=False)
    return [vector.tobytes() for vector in vectors]
