"""The KV cache: a pool of blocks for one base and device, and each sequence's block table.

Which block is whose is counted in `block_pool.py`; what attention makes of them is in `paged_attention.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmos.nn.generation.block_pool import BlockPool, BlockUsage, Key, next_key

BLOCK = 32  # tokens of a block: chosen by measurement, see docs/log.md

Pair = tuple[Tensor, Tensor]


class KVCache:
    """The blocks of the KV cache: [blocks, kv heads, BLOCK, d] of keys and values per layer, as given or in `dtype`."""

    def __init__(
        self,
        size_bytes: int,
        token_bytes: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.blocks = BlockPool(size_bytes // (token_bytes * BLOCK))
        self.tokens_asked = 0
        self.tokens_found = 0
        self.tokens_held = 0
        self._device = torch.device(device)
        self._dtype = dtype
        self._layers: dict[int, Pair] = {}
        self._copies: Pair | None = None

    @property
    def capacity(self) -> int:
        """Tokens that fit in it."""
        return self.blocks.count * BLOCK

    @property
    def layers(self) -> int:
        """How many layers have some."""
        return len(self._layers)

    @property
    def usage(self) -> BlockUsage:
        held, kept = self.blocks.held_blocks, self.blocks.cached_blocks
        return BlockUsage(self.blocks.count, held, kept, self.tokens_held, self.tokens_asked, self.tokens_found)

    @property
    def waste(self) -> float:
        """The share of the held blocks' room that is empty; below zero where sharing saves more than that."""
        room = self.blocks.held_blocks * BLOCK
        return 1 - self.tokens_held / room if room else 0.0

    def layer(self, index: int, key: Tensor, value: Tensor) -> Pair:
        """One layer's keys and values; made when it first has some, for only then it is known how large they are."""
        held = self._layers.get(index)
        if held is None:
            held = self._layers[index] = self._zeros(key), self._zeros(value)
        return held

    def round(self, new: Tensor) -> Tensor:
        """Keys or values rounded to the cache's dtype, so that prefill at once or in chunks gives the same answer."""
        return new if self._dtype in (None, new.dtype) else new.to(self._dtype).to(new.dtype)

    def read(self, keys: Tensor, values: Tensor, blocks: Tensor | slice) -> Pair:
        """A layer's blocks: as they lie where they lie together, else a copy that lasts until the next one is read."""
        if isinstance(blocks, slice):
            return keys[blocks], values[blocks]
        room = len(blocks)
        if self._copies is None or len(self._copies[0]) < room or self._copies[0].shape[1:] != keys.shape[1:]:
            # Kept from layer to layer: fresh memory would be mapped page by page every time, which costs more.
            self._copies = keys.new_empty(2 * room, *keys.shape[1:]), values.new_empty(2 * room, *values.shape[1:])
        copies = self._copies[0][:room], self._copies[1][:room]
        torch.index_select(keys, 0, blocks, out=copies[0])
        torch.index_select(values, 0, blocks, out=copies[1])
        return copies

    def wipe(self, blocks: Sequence[int]) -> None:
        """Zeros again: what is not a number would stay where a shorter sequence does not write it over."""
        for keys, values in self._layers.values():
            for block in blocks:
                keys[block].zero_()
                values[block].zero_()

    def _zeros(self, like: Tensor) -> Tensor:
        """Zeros, for what is masked out must at least be a number. On a CPU they cost nothing until written over."""
        shape, dtype = (self.blocks.count, like.shape[0], BLOCK, like.shape[2]), self._dtype or like.dtype
        if self._device.type != "cpu":
            return torch.zeros(shape, dtype=dtype, device=self._device)
        size_bytes = int(np.prod(shape)) * dtype.itemsize
        return torch.from_numpy(np.zeros(size_bytes, np.uint8)).view(dtype).view(shape)


class SequenceCache:
    """One sequence's block table: blocks from `grow` or, out of the prefix cache, from `resume`, until `release`."""

    def __init__(self, pool: KVCache, origin: Key, ids: Sequence[int]) -> None:
        self.pool = pool
        self.table: list[int] = []
        self.length = 0  # tokens whose keys and values are there
        self._origin = origin
        self._keys: list[Key] = []  # of its full blocks
        self._open: list[int] = []  # the tokens of its last block, while that is not full
        self._ahead: list[Key] = []
        self.expect(ids)

    def expect(self, ids: Sequence[int]) -> None:
        """These are the tokens it will compute, as far as they are known; said again after a release."""
        self._asked = len(ids)
        self._ahead = []
        key = self._origin
        for start in range(0, len(ids) - BLOCK, BLOCK):  # whole blocks, never the last token: its logits are needed
            key = next_key(key, ids[start : start + BLOCK])
            self._ahead.append(key)

    @property
    def ahead(self) -> Sequence[Key]:
        """The keys of the blocks that it will fill with what was expected."""
        return self._ahead[len(self._keys) :]

    def cached_prefix(self) -> list[int]:
        """The blocks of the longest prefix of the expected tokens that the prefix cache has."""
        blocks = (self.pool.blocks.find(key) for key in self._ahead)
        return list(takewhile(lambda block: block is not None, blocks))  # type: ignore[arg-type]  # none of them is None

    def resume(self) -> int:
        """Take the cached prefix before anything else; returns how many tokens need no prefill."""
        assert not self.table, "a sequence resumes once, before it has blocks of its own"
        for block in self.cached_prefix():
            self.pool.blocks.hold(block)
            self.table.append(block)
        self._keys = self._ahead[: len(self.table)]
        self._count(BLOCK * len(self.table))
        self.pool.tokens_asked += self._asked
        self.pool.tokens_found += self.length
        return self.length

    def lacks(self, count: int) -> int:
        """Blocks to take before this many more tokens fit."""
        return max(0, -(-(self.length + count) // BLOCK) - len(self.table))

    def grow(self, count: int) -> bool:
        """Take the blocks that this many more tokens need; False, and none taken, if the pool has too few."""
        lacking = self.lacks(count)
        if lacking > self.pool.blocks.available:
            return False
        self.table += [self.pool.blocks.take() for _ in range(lacking)]
        return True

    def advance(self, ids: Sequence[int]) -> None:
        """The keys and values of these tokens were written; blocks that are full now join the prefix cache."""
        self._count(len(ids))
        self._open += ids
        while len(self._open) >= BLOCK:
            full, self._open = self._open[:BLOCK], self._open[BLOCK:]
            place = len(self._keys)
            key = next_key(self._keys[-1] if place else self._origin, full)
            self.pool.blocks.fill(self.table[place], key)
            self._keys.append(key)

    def hold(self, count: int) -> None:
        """This many tokens' keys and values are there, and stay out of the prefix cache."""
        self._count(count)

    def wipe(self) -> None:
        """What the last step wrote is no numbers: leave none of it. It was not told to advance over it."""
        self.pool.wipe(self.table[len(self._keys) :])

    def release(self) -> None:
        """Give all blocks back, the last first: the prefix cache keeps a beginning longer than what follows it."""
        for block in reversed(self.table):
            self.pool.blocks.drop(block)
        self._count(-self.length)
        self.table, self._keys, self._open = [], [], []

    def _count(self, tokens: int) -> None:
        self.length += tokens
        self.pool.tokens_held += tokens


def token_bytes(config: Any, itemsize: int) -> int:  # Any: transformers' config class of this architecture
    """What one token's keys and values take over all layers; of an encoder with a decoder, over the decoder's."""
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    if getattr(config, "is_encoder_decoder", False):
        heads = getattr(config, "decoder_attention_heads", heads)
        layers = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", layers)
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    d = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    return int(layers * 2 * kv_heads * d * itemsize)
