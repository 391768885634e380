"""The block manager of the KV cache: reference counts, and a prefix cache evicted least recently used first.

It only counts; keys and values are in `kv_cache.py`. A block with several holders is full, and a full block is never
written again, so sharing needs no copies.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heappop, heappush
from struct import pack

Key = bytes  # of a full block: a hash of its tokens and of all tokens before them


def next_key(before: Key, ids: Sequence[int]) -> Key:
    """The key of a full block with these tokens after the block with the key `before`; the first follows `origin`."""
    return blake2b(before + pack(f"<{len(ids)}q", *ids), digest_size=16).digest()


def origin(*parts: str) -> Key:
    """The key before a sequence's first block: a hash of the model and adapter, and the caller's salt."""
    made = blake2b(digest_size=16)
    for part in parts:
        made.update(pack("<q", len(part)) + part.encode())
    return made.digest()


@dataclass(frozen=True, slots=True)
class BlockUsage:
    """A pool's use in blocks, and the tokens that the prefix cache served, which needed no prefill."""

    total: int
    held: int  # held by sequences; a shared block counts once
    kept: int  # cached for prefix reuse; evicted least recently used first
    tokens_held: int  # tokens in the block tables of sequences; a shared token counts once per sequence
    tokens_asked: int
    tokens_found: int

    @property
    def free(self) -> int:
        return self.total - self.held - self.kept

    @property
    def hit_rate(self) -> float:
        return self.tokens_found / self.tokens_asked if self.tokens_asked else 0.0


class BlockPool:
    """A fixed number of blocks. Each is free, in the prefix cache, or held by one or more sequences."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count))  # a heap: the lowest block first, so that used blocks lie together
        self._holders = [0] * count
        self._key_of: dict[int, Key] = {}
        self._by_key: dict[Key, int] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()  # least recently used first

    @property
    def available(self) -> int:
        """How many blocks can be taken now: free ones and cached ones."""
        return len(self._free) + len(self._kept)

    @property
    def held_blocks(self) -> int:
        return self.count - self.available

    @property
    def cached_blocks(self) -> int:
        return len(self._kept)

    def holders(self, block: int) -> int:
        return self._holders[block]

    def take(self) -> int:
        """Take an empty block for one holder; call it only if one is available."""
        block = heappop(self._free) if self._free else self._give_up()
        self._holders[block] = 1
        return block

    def find(self, key: Key) -> int | None:
        """The full block of this key, or None. Hold it before the next `take`, which may evict it."""
        return self._by_key.get(key)

    def hold(self, block: int) -> None:
        """Add a holder to a full block."""
        assert block in self._key_of, f"block {block} is not full: who holds it may write it"
        self._kept.pop(block, None)
        self._holders[block] += 1

    def fill(self, block: int, key: Key) -> None:
        """Mark the block as full and enter its key, unless a block with the same tokens is there already."""
        if self._by_key.setdefault(key, block) == block:
            self._key_of[block] = key

    def drop(self, block: int) -> None:
        """Remove a holder. Without holders, a full block stays in the prefix cache; any other block becomes free."""
        assert self._holders[block] > 0, f"block {block} is dropped and nobody holds it"
        self._holders[block] -= 1
        if self._holders[block]:
            return
        if block in self._key_of:
            self._kept[block] = None
        else:
            heappush(self._free, block)

    def _give_up(self) -> int:
        block, _ = self._kept.popitem(last=False)
        del self._by_key[self._key_of.pop(block)]
        return block
