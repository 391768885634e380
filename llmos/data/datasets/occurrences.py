"""How often each of many 64-bit hashes came before, in 12 bytes for each different one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

RECENT = 1 << 17  # hashes in a dictionary, before they are merged into the sorted arrays
BUCKETS = 64  # by the highest bits: one is copied at a time


class Occurrences:
    """Counts hashes: recent ones in a dictionary, the others in sorted arrays, of which each has a range of them."""

    def __init__(self, recent: int = RECENT) -> None:
        import numpy as np  # here, for only processes that write datasets pay for it

        self._most_recent = recent
        self._recent: dict[int, int] = {}
        self._hashes: list[Any] = [np.empty(0, np.uint64) for _ in range(BUCKETS)]  # Any: arrays
        self._counts: list[Any] = [np.empty(0, np.uint32) for _ in range(BUCKETS)]
        self._is_merged = False

    def count(self, hashes: Sequence[int]) -> list[int]:
        """Of each of these, in their order, how often it came before; they count from now on."""
        recent, before = self._recent, []
        merged = self._merged_counts([one for one in hashes if one not in recent]) if self._is_merged else {}
        for one in hashes:
            count = recent.get(one)
            if count is None:
                count = merged.get(one, 0)
            before.append(count)
            recent[one] = count + 1
        if len(recent) >= self._most_recent:
            self._merge()
        return before

    def _merged_counts(self, hashes: Sequence[int]) -> dict[int, int]:
        """The counts of those that the arrays have."""
        import numpy as np

        wanted = np.unique(np.asarray(hashes, np.uint64))
        found: dict[int, int] = {}
        for bucket, part in _parts(wanted):
            known, counts = self._hashes[bucket], self._counts[bucket]
            if not len(known):
                continue
            at = np.minimum(np.searchsorted(known, part), len(known) - 1)
            hits = known[at] == part
            found.update(zip(part[hits].tolist(), counts[at[hits]].tolist(), strict=True))
        return found

    def _merge(self) -> None:
        """Move what is recent into the arrays: a count there is replaced by the recent one, which began with it."""
        import numpy as np

        fresh = np.fromiter(self._recent, np.uint64, len(self._recent))
        order = np.argsort(fresh)
        counts = np.fromiter(self._recent.values(), np.uint32, len(self._recent))[order]
        done = 0
        for bucket, part in _parts(fresh[order]):
            mine = counts[done : done + len(part)]
            done += len(part)
            known = self._hashes[bucket]
            at = np.searchsorted(known, part)
            hits = at < len(known)
            hits[hits] = known[at[hits]] == part[hits]
            self._counts[bucket][at[hits]] = mine[hits]
            self._hashes[bucket] = np.insert(known, at[~hits], part[~hits])
            self._counts[bucket] = np.insert(self._counts[bucket], at[~hits], mine[~hits])
        self._recent, self._is_merged = {}, True


def _parts(ordered: Any) -> list[tuple[int, Any]]:  # Any: arrays
    """Sorted hashes by bucket."""
    import numpy as np

    bounds = np.searchsorted(ordered >> np.uint64(58), np.arange(BUCKETS + 1, dtype=np.uint64)).tolist()
    return [(bucket, ordered[start:end]) for bucket, (start, end) in enumerate(pairwise(bounds)) if start < end]
