"""A histogram of seconds by model and priority, as Prometheus counts them: in buckets, with their sum."""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """Each value counts in the first bucket whose inclusive bound (seconds) it does not exceed, or in the last."""

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        self.counts: dict[tuple[str, str], list[int]] = {}
        self.sums: dict[tuple[str, str], float] = {}

    def observe(self, model: str, priority: str, seconds: float) -> None:
        key = (model, priority)
        counts = self.counts.get(key)
        if counts is None:
            counts, self.sums[key] = self.counts.setdefault(key, [0] * (len(self.bounds_s) + 1)), 0.0
        counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sums[key] += seconds
