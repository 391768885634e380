"""Eviction: which idle models and processes to unload, cheapest to reload first. The scheduler says for whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdleTarget:
    """Something that no call needs just now, as the router sees it: a serve process, or one model of a busy one."""

    pid: int
    model: str | None  # None: all of the process
    since: float
    use: float  # calls of late
    is_returning: bool = False  # calls wait for it: it gives way to another base, and starts again after that one


@dataclass(frozen=True, slots=True)
class EvictionCandidate:
    """What may be given up: a serve process, or one model of a busy one, and what bringing it back would cost."""

    pid: int
    since: float
    held_bytes: int
    model: str | None = None
    device: str = "cpu0"
    reload_s: float = 0.0  # what loading it took
    use: float = 0.0
    is_returning: bool = False  # it starts again when there is room, for calls wait for it

    @property
    def cost(self) -> tuple[float, float]:
        """Seconds of reloading that each byte given up will cost about; among equals the longest unused is cheapest."""
        return self.reload_s * self.use / max(self.held_bytes, 1), self.since


def cheapest(at_least_bytes: int, *tiers: Iterable[EvictionCandidate]) -> list[EvictionCandidate]:
    """What is cheapest to give up and together holds so many bytes, and no more than that needs; none if it cannot.

    Nothing of a later tier goes while an earlier one is enough.
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
    for one in reversed(chosen[:]):  # a big one chosen late may make smaller ones before it needless
        if total - one.held_bytes >= at_least_bytes:
            chosen.remove(one)
            total -= one.held_bytes
    return chosen
