"""Batches inputs for a graph: up to a token budget, as padded rectangles of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from llmos.engines.active_call import ActiveCall
from llmos.engines.priority import PriorityQueue

LARGE = 2048  # tokens: a larger call yields to smaller ones
STEP = 1024  # tokens of a step with a large call: a new call waits no longer than such a step
FULL = 0.75  # the shortest row of a rectangle has at least this share of the longest: padding costs computation too


@dataclass(frozen=True, slots=True)
class OnnxItem:
    """One sequence of a call."""

    job: ActiveCall
    at: int

    @property
    def ids(self) -> list[int]:
        return self.job.sequences[self.at]


class OnnxBatcher:
    """The queue of sequences, in order of their turns."""

    def __init__(self, token_budget: int) -> None:
        self._token_budget = token_budget
        self._waiting: list[tuple[float, int, OnnxItem]] = []  # a heap
        self._turns = PriorityQueue()
        self._sequences = 0

    def add(self, job: ActiveCall) -> None:
        job.is_large = sum(map(len, job.sequences)) > LARGE
        place = self._turns.enter(job)
        for at, ids in enumerate(job.sequences):
            heappush(self._waiting, (place, self._sequences, OnnxItem(job, at)))
            self._sequences += 1
            place += self._turns.step_of(job, len(ids))

    def next(self) -> list[OnnxItem]:
        """Take the next sequences, up to the token budget, without cancelled ones.

        Sequences of a large call are not added behind those of small calls, which are soon done.
        """
        chosen: list[tuple[ActiveCall, float, int]] = []
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
    """Group the items by length into padded rectangles with little padding: none if `is_exact`, at most `most` rows
    each.

    A rectangle with its padding stays within the budget.
    """
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
