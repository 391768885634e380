"""The KV cache: a pool of blocks for one base and device, and each sequence's block table.

`block_pool.py` counts the blocks' holders; `paged_attention.py` computes attention over them.
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
    """The blocks of the KV cache: keys and values per layer, [blocks, kv heads, BLOCK, d].

    The dtype is `dtype`, or else that of the first keys.
    """

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
        """The number of tokens that fit."""
        return self.blocks.count * BLOCK

    @property
    def layers(self) -> int:
        """The number of layers that have keys and values."""
        return len(self._layers)

    @property
    def usage(self) -> BlockUsage:
        held, kept = self.blocks.held_blocks, self.blocks.cached_blocks
        return BlockUsage(self.blocks.count, held, kept, self.tokens_held, self.tokens_asked, self.tokens_found)

    @property
    def waste(self) -> float:
        """The empty share of the held blocks; negative if prefix sharing saves more than is empty."""
        room = self.blocks.held_blocks * BLOCK
        return 1 - self.tokens_held / room if room else 0.0

    def layer(self, index: int, key: Tensor, value: Tensor) -> Pair:
        """One layer's keys and values.

        They are allocated at the layer's first use, because their shape is known only then.
        """
        held = self._layers.get(index)
        if held is None:
            held = self._layers[index] = self._zeros(key), self._zeros(value)
        return held

    def round(self, new: Tensor) -> Tensor:
        """Round keys or values to the cache's dtype, so that prefill at once and in chunks give the same result."""
        return new if self._dtype in (None, new.dtype) else new.to(self._dtype).to(new.dtype)

    def read(self, keys: Tensor, values: Tensor, blocks: Tensor | slice) -> Pair:
        """A layer's keys and values of these blocks: a view if the blocks are adjacent, else a copy valid until the
        next call."""
        if isinstance(blocks, slice):
            return keys[blocks], values[blocks]
        room = len(blocks)
        if self._copies is None or len(self._copies[0]) < room or self._copies[0].shape[1:] != keys.shape[1:]:
            # The buffer is reused for every layer: mapping fresh memory page by page costs more.
            self._copies = keys.new_empty(2 * room, *keys.shape[1:]), values.new_empty(2 * room, *values.shape[1:])
        copies = self._copies[0][:room], self._copies[1][:room]
        torch.index_select(keys, 0, blocks, out=copies[0])
        torch.index_select(values, 0, blocks, out=copies[1])
        return copies

    def wipe(self, blocks: Sequence[int]) -> None:
        """Set blocks to zero: a NaN would stay in places that a later, shorter sequence does not overwrite."""
        for keys, values in self._layers.values():
            for block in blocks:
                keys[block].zero_()
                values[block].zero_()

    def _zeros(self, like: Tensor) -> Tensor:
        """A tensor of zeros, because masked places must hold finite numbers.

        On a CPU, pages take memory when written.
        """
        shape, dtype = (self.blocks.count, like.shape[0], BLOCK, like.shape[2]), self._dtype or like.dtype
        if self._device.type != "cpu":
            return torch.zeros(shape, dtype=dtype, device=self._device)
        size_bytes = int(np.prod(shape)) * dtype.itemsize
        return torch.from_numpy(np.zeros(size_bytes, np.uint8)).view(dtype).view(shape)


class SequenceCache:
    """One sequence's block table.

    Blocks come from `grow`, or from the prefix cache by `resume`, and stay until `release`.
    """

    def __init__(self, pool: KVCache, origin: Key, ids: Sequence[int]) -> None:
        self.pool = pool
        self.table: list[int] = []
        self.length = 0  # tokens whose keys and values are in the cache
        self._origin = origin
        self._keys: list[Key] = []  # of its full blocks
        self._open: list[int] = []  # the tokens of the last block, until it is full
        self._ahead: list[Key] = []
        self.expect(ids)

    def expect(self, ids: Sequence[int]) -> None:
        """Set the tokens that the sequence will compute, as far as they are known; call it again after a release."""
        self._asked = len(ids)
        self._ahead = []
        key = self._origin
        # whole blocks only, and never the last token: its logits must be computed
        for start in range(0, len(ids) - BLOCK, BLOCK):
            key = next_key(key, ids[start : start + BLOCK])
            self._ahead.append(key)

    @property
    def ahead(self) -> Sequence[Key]:
        """The keys of the blocks that the expected tokens will still fill."""
        return self._ahead[len(self._keys) :]

    def cached_prefix(self) -> list[int]:
        """The blocks of the longest prefix of the expected tokens that the prefix cache has."""
        blocks = (self.pool.blocks.find(key) for key in self._ahead)
        return list(takewhile(lambda block: block is not None, blocks))  # type: ignore[arg-type]  # none of them is None

    def resume(self) -> int:
        """Take the cached prefix before any other block; returns how many tokens need no prefill."""
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
        """The number of blocks to take before this many more tokens fit."""
        return max(0, -(-(self.length + count) // BLOCK) - len(self.table))

    def grow(self, count: int) -> bool:
        """Take the blocks for this many more tokens; if the pool has too few, take none and return False."""
        lacking = self.lacks(count)
        if lacking > self.pool.blocks.available:
            return False
        self.table += [self.pool.blocks.take() for _ in range(lacking)]
        return True

    def advance(self, ids: Sequence[int]) -> None:
        """Count these tokens as written. Blocks that are full now join the prefix cache."""
        self._count(len(ids))
        self._open += ids
        while len(self._open) >= BLOCK:
            full, self._open = self._open[:BLOCK], self._open[BLOCK:]
            place = len(self._keys)
            key = next_key(self._keys[-1] if place else self._origin, full)
            self.pool.blocks.fill(self.table[place], key)
            self._keys.append(key)

    def hold(self, count: int) -> None:
        """Count this many tokens as written, without adding them to the prefix cache."""
        self._count(count)

    def wipe(self) -> None:
        """Clear what the last step wrote, because it contains NaN. `advance` was not called for it."""
        self.pool.wipe(self.table[len(self._keys) :])

    def release(self) -> None:
        """Return all blocks, the last first, so that the prefix cache evicts a prompt's end before its beginning."""
        for block in reversed(self.table):
            self.pool.blocks.drop(block)
        self._count(-self.length)
        self.table, self._keys, self._open = [], [], []

    def _count(self, tokens: int) -> None:
        self.length += tokens
        self.pool.tokens_held += tokens


def token_bytes(config: Any, itemsize: int) -> int:  # Any: transformers' config class of this architecture
    """Bytes of one token's keys and values over all layers; for an encoder-decoder, over the decoder's layers."""
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    if getattr(config, "is_encoder_decoder", False):
        heads = getattr(config, "decoder_attention_heads", heads)
        layers = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", layers)
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    d = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    return int(layers * 2 * kv_heads * d * itemsize)
