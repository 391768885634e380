"""Eviction: which idle models and processes to unload, cheapest to reload first. The scheduler says for whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdleTarget:
    """Something idle, as the router sees it: a serve process, or one model of a busy process."""

    pid: int
    model: str | None  # None: the whole process
    since: float
    use: float  # recent calls
    is_returning: bool = False  # calls wait for it: it yields to another base and starts again after that


@dataclass(frozen=True, slots=True)
class EvictionCandidate:
    """A candidate: a serve process, or one model of a busy process, with its memory and the cost of reloading it."""

    pid: int
    since: float
    held_bytes: int
    model: str | None = None
    device: str = "cpu0"
    reload_s: float = 0.0  # how long loading it took
    use: float = 0.0
    is_returning: bool = False  # it starts again when there is memory, because calls wait for it

    @property
    def cost(self) -> tuple[float, float]:
        """The expected reloading time per byte freed; among equals the least recently used is cheapest."""
        return self.reload_s * self.use / max(self.held_bytes, 1), self.since


def cheapest(at_least_bytes: int, *tiers: Iterable[EvictionCandidate]) -> list[EvictionCandidate]:
    """The cheapest candidates that together hold this many bytes, without unneeded ones; none if all are too few.

    A later tier is used only if earlier ones are not enough.
    """
    chosen: list[EvictionCandidate] = []
    total = 0
    for one in (one for tier in tiers for one in sorted(tier, key=lambda one: one.cost)):
        if total >= at_least_bytes:
            break
        chosen.append(one)
        total += one.held_bytes
    if total < at_least_bytes:
        return []
    for one in reversed(chosen[:]):  # a large one chosen late may make smaller ones unnecessary
        if total - one.held_bytes >= at_least_bytes:
            chosen.remove(one)
            total -= one.held_bytes
    return chosen
