"""How often each of many 64-bit hashes came before, in 12 bytes for each different one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BUCKETS = 256  # by the highest byte: a batch copies the buckets that it adds to


class Occurrences:
    """Counts hashes. Each bucket is a sorted array of hashes and one of their counts."""

    def __init__(self) -> None:
        import numpy as np  # here, for only processes that write datasets pay for it

        self._hashes: list[Any] = [np.empty(0, np.uint64) for _ in range(BUCKETS)]  # Any: arrays
        self._counts: list[Any] = [np.empty(0, np.uint32) for _ in range(BUCKETS)]

    def count(self, hashes: Sequence[int]) -> list[int]:
        """Of each of these, in their order, how often it came before; they count from now on."""
        import numpy as np

        if not len(hashes):
            return []
        values = np.asarray(hashes, np.uint64)
        before = np.zeros(len(values), np.int64)
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        bounds = np.searchsorted(ordered >> np.uint64(56), np.arange(BUCKETS + 1, dtype=np.uint64))
        for bucket in range(BUCKETS):
            start, end = int(bounds[bucket]), int(bounds[bucket + 1])
            if start < end:
                before[order[start:end]] = self._add(bucket, ordered[start:end])
        return [int(one) for one in before]

    def _add(self, bucket: int, ordered: Any) -> Any:  # Any: arrays
        """The counts of these sorted hashes of one bucket before each of them; equal ones count one another."""
        import numpy as np

        unique, starts, sizes = np.unique(ordered, return_index=True, return_counts=True)
        hashes, counts = self._hashes[bucket], self._counts[bucket]
        at = np.searchsorted(hashes, unique)
        is_known = at < len(hashes)
        is_known[is_known] = hashes[at[is_known]] == unique[is_known]
        known = np.zeros(len(unique), np.int64)
        known[is_known] = counts[at[is_known]]
        counts[at[is_known]] += sizes[is_known].astype(np.uint32)
        fresh = ~is_known
        self._hashes[bucket] = np.insert(hashes, at[fresh], unique[fresh])
        self._counts[bucket] = np.insert(counts, at[fresh], sizes[fresh].astype(np.uint32))
        return np.repeat(known, sizes) + np.arange(len(ordered)) - np.repeat(starts, sizes)
