"""Block manager of the KV cache: reference counts, and a prefix cache evicted least recently used first.

It counts; keys and values are in `kv_cache.py`. A block with several holders is full, and a full block is never written
again, so sharing needs no copies.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heappop, heappush
from struct import pack

Key = bytes  # of a full block: what its tokens are, and all before them


def next_key(before: Key, ids: Sequence[int]) -> Key:
    """The key of the block with these tokens, after the one of key `before`; a first block comes after its origin."""
    return blake2b(before + pack(f"<{len(ids)}q", *ids), digest_size=16).digest()


def origin(*parts: str) -> Key:
    """What the first block of a sequence comes after: whose keys and values they are, and the salt of who asks."""
    made = blake2b(digest_size=16)
    for part in parts:
        made.update(pack("<q", len(part)) + part.encode())
    return made.digest()


@dataclass(frozen=True, slots=True)
class BlockUsage:
    """How a pool is used, in blocks; and tokens that the prefix cache had, so that they needed no prefill."""

    total: int
    held: int  # by sequences, shared ones once
    kept: int  # cached for prefix reuse; evicted least recently used first
    tokens_held: int  # in the tables of sequences, shared ones as often as they are shared
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
        self._free = list(range(count))  # a heap: the lowest first, so that what is used lies together
        self._holders = [0] * count
        self._key_of: dict[int, Key] = {}
        self._by_key: dict[Key, int] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()  # the longest unused first

    @property
    def available(self) -> int:
        """Blocks that can be taken now."""
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
        """A block for one holder, empty; only where one is available."""
        block = heappop(self._free) if self._free else self._give_up()
        self._holders[block] = 1
        return block

    def find(self, key: Key) -> int | None:
        """The full block of this key, if the prefix cache still has it. Hold it, or it may be evicted."""
        return self._by_key.get(key)

    def hold(self, block: int) -> None:
        """One more holder for a full block."""
        assert block in self._key_of, f"block {block} is not full: who holds it may write it"
        self._kept.pop(block, None)
        self._holders[block] += 1

    def fill(self, block: int, key: Key) -> None:
        """The block is full: it can be found by this key, unless another with the same tokens came first."""
        if self._by_key.setdefault(key, block) == block:
            self._key_of[block] = key

    def drop(self, block: int) -> None:
        """One holder less. With none left, a full block stays in the prefix cache; any other is free."""
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
