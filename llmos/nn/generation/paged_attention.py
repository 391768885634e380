"""Paged attention: planned once a step for all layers, computed over the blocks of the KV cache.

A decode step has one query per sequence, and products with one query are slow. On a CPU a C kernel computes these,
block by block. Without the kernel, and on other devices, they are batched: one product for every block with the query
of its sequence, then a sum over each sequence's blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from llmos.nn.cpu.cpu_kernels import Decoder, fits, kernels
from llmos.nn.generation.kv_cache import BLOCK, KVCache, Pair, SequenceCache
from llmos.nn.relative_bias import RelativeBias

Span = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # the arguments of Kernels.attend


@dataclass(frozen=True, slots=True)
class Reach:
    """The visible tokens of decode queries: `blocks` of the pool, the owner of each, and a mask of hidden positions.

    `table` has a row for each query, with indices into `blocks`; shorter rows repeat their first index. `distances` are
    from each query to the tokens in its blocks.
    """

    blocks: Tensor | slice
    owners: Tensor
    hidden: Tensor
    table: Tensor
    distances: Tensor


class Plan:
    """One step: the number of new tokens of each sequence. The sequences' blocks must have room for them."""

    def __init__(
        self, lengths: Sequence[int], kvs: Sequence[SequenceCache], device: torch.device, *, is_compiled: bool = True
    ) -> None:
        self.pool = kvs[0].pool
        self.lengths = lengths
        self._kvs = kvs
        self._device = device
        self._starts = [0, *accumulate(lengths)]
        self._lone = [i for i, length in enumerate(lengths) if length == 1]
        self._rows: dict[int, Tensor] = {}
        self._reaches: dict[int | None, Reach] = {}
        self._spans: dict[int | None, Span] = {}
        self._kernels = kernels() if is_compiled and device.type == "cpu" else None

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        size: int | None,
        bias: RelativeBias | None = None,
    ) -> Tensor:
        """Store keys and values and attend, queries [heads, T, d] -> [T, heads, d]; `size` is the sliding window's."""
        held = self.pool.layer(layer, key, value)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        out = query.new_empty(query.shape[1], len(query), value.shape[-1])
        compiled = self._kernels if bias is None and fits(query, key, value) else None
        if compiled is not None and not compiled.attends((query, key, value), held):
            compiled = None
        if compiled is None or len(self._lone) < len(self.lengths):
            self._put(held, key, value)
            key, value = self.pool.round(key), self.pool.round(value)
        if compiled is not None and self._lone:
            compiled.attend((query, key, value), held, self._span(size), scale, out)
        elif compiled is None and len(self._lone) == len(self.lengths) > 1:
            return each(self.pool, query, held, self._reach(size), scale, bias)
        elif compiled is None and len(self._lone) > 1:
            at = self._tensor([self._starts[i] for i in self._lone])
            out[at] = each(self.pool, query[:, at], held, self._reach(size), scale, bias)
        for i, length in enumerate(self.lengths):
            if length > 1 or (len(self._lone) == 1 and compiled is None):
                here = slice(self._starts[i], self._starts[i + 1])
                new = key[:, here], value[:, here]
                seen = self._visible_kv(i, *held, new, size)
                if compiled is None:
                    out[here] = _newest(query[:, here], *seen, scale, size, bias)
                else:
                    bounds = (0, length), (0, seen[0].shape[1])
                    made = compiled.row((query[:, here], *seen), *bounds, scale, is_causal=True, window=size)
                    assert made is not None, "attends said that it can"
                    out[here] = made
        return out

    @property
    def is_lone(self) -> bool:
        """Whether every sequence has one token in this step and the C kernels are there."""
        return self._kernels is not None and len(self._lone) == len(self.lengths)

    def decode(
        self, layer: int, told: Decoder, x: Tensor, positions: tuple[Tensor, Tensor], size: int | None
    ) -> Tensor | None:
        """Compute a decoder layer for a step of one token per sequence, [T, hidden] -> [T, hidden], and store keys and
        values.

        None, with nothing changed, for tensors that the kernel does not support.
        """
        assert self._kernels is not None, "without the loops no layer is a loop"
        none = x.new_empty(told.kv_heads, 0, told.d)
        return self._kernels.decode(told, x, positions, self.pool.layer(layer, none, none), self._span(size))

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store keys and values, [heads, T, d], without computing attention."""
        self._put(self.pool.layer(layer, key, value), key, value)

    def _put(self, held: Pair, key: Tensor, value: Tensor) -> None:
        rows = self._rows_of(len(key))
        for whole, new in zip(held, (key, value), strict=True):
            whole.view(-1, whole.shape[-1]).index_copy_(0, rows, new.reshape(-1, new.shape[-1]).to(whole.dtype))

    def _span(self, size: int | None) -> Span:
        """The visible tokens of decode queries, in the form that the C kernel takes."""
        if size not in self._spans:
            lone = [self._kvs[i] for i in self._lone]
            blocks = torch.tensor([block for kv in lone for block in kv.table], dtype=torch.int32)
            starts = torch.tensor([0, *accumulate(len(kv.table) for kv in lone)][:-1])
            first, last = torch.tensor([_first(kv, size) for kv in lone]), torch.tensor([kv.length for kv in lone])
            self._spans[size] = blocks, starts, first, last, torch.tensor([self._starts[i] for i in self._lone])
        return self._spans[size]

    def _visible_kv(
        self, i: int, keys: Tensor, values: Tensor, new: tuple[Tensor, Tensor], size: int | None
    ) -> tuple[Tensor, Tensor]:
        """The keys and values visible to a sequence's new tokens, in order, [kv heads, seen, d]."""
        kv, length = self._kvs[i], self.lengths[i]
        if kv.length == 0:
            return new
        first, end = _first(kv, size) // BLOCK, kv.length + length
        blocks = self._tensor(kv.table[first : -(-end // BLOCK)])
        k, v = (x.index_select(0, blocks).to(new[0].dtype).transpose(0, 1).flatten(1, 2) for x in (keys, values))
        return k[:, : end - first * BLOCK], v[:, : end - first * BLOCK]

    def _reach(self, size: int | None) -> Reach:
        if size not in self._reaches:
            lone = [self._kvs[i] for i in self._lone]
            self._reaches[size] = visible_range(
                [kv.table for kv in lone], [_first(kv, size) for kv in lone], [kv.length for kv in lone], self._device
            )
        return self._reaches[size]

    def _rows_of(self, kv_heads: int) -> Tensor:
        """The rows for the new tokens' keys, head by head, in a layer's blocks viewed as rows."""
        if kv_heads not in self._rows:
            written = list(self._write_positions())
            block = self._tensor([kv.table[position // BLOCK] for kv, position in written])
            offset = self._tensor([position % BLOCK for _, position in written])
            heads = torch.arange(kv_heads, device=self._device).unsqueeze(1)
            self._rows[kv_heads] = ((block * kv_heads + heads) * BLOCK + offset).flatten()
        return self._rows[kv_heads]

    def _write_positions(self) -> Iterator[tuple[SequenceCache, int]]:
        """The sequence and position of every new token."""
        for kv, length in zip(self._kvs, self.lengths, strict=True):
            yield from ((kv, kv.length + i) for i in range(length))

    def _tensor(self, numbers: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(numbers, device=self._device)


def visible_range(
    tables: Sequence[Sequence[int]], first: Sequence[int], last: Sequence[int], device: torch.device
) -> Reach:
    """The visible tokens of queries that see the positions `first` to `last` of the sequence with that block table.

    Blocks are in the pool's order, so that adjacent ones are read without a copy.
    """
    held = sorted(
        (table[place], owner, place * BLOCK)
        for owner, (table, start, end) in enumerate(zip(tables, first, last, strict=True))
        for place in range(start // BLOCK, end // BLOCK + 1)
    )
    blocks, owners, starts = zip(*held, strict=True)
    rows: list[list[int]] = [[] for _ in tables]
    for place, owner in enumerate(owners):
        rows[owner].append(place)
    longest = max(map(len, rows))
    owned = torch.tensor(owners, device=device)
    from_first, to_last = (torch.tensor(some, device=device)[owned].unsqueeze(1) for some in (first, last))
    positions = torch.tensor(starts, device=device).unsqueeze(1) + torch.arange(BLOCK, device=device)
    hidden = (positions > to_last) | (positions < from_first)
    table = torch.tensor([row + row[:1] * (longest - len(row)) for row in rows], device=device)
    is_together = blocks[-1] - blocks[0] + 1 == len(set(blocks)) == len(blocks)
    where = slice(blocks[0], blocks[-1] + 1) if is_together else torch.tensor(blocks, device=device)
    return Reach(where, owned, hidden.unsqueeze(1), table, positions - to_last)


def each(
    pool: KVCache, query: Tensor, held: Pair, reach: Reach, scale: float, bias: RelativeBias | None = None
) -> Tensor:
    """Batched decode attention over the blocks of a layer: queries [heads, tokens, d] -> [tokens, heads, d]."""
    heads, tokens, d = query.shape
    k, v = (x.to(query.dtype) for x in pool.read(*held, reach.blocks))
    blocks, kv_heads, _, out_d = v.shape
    own = (query * scale).transpose(0, 1).reshape(tokens, heads * d).index_select(0, reach.owners)
    scores = torch.bmm(own.view(blocks * kv_heads, -1, d), k.flatten(0, 1).transpose(1, 2)).float()
    scores = scores.view(blocks, heads, BLOCK)
    if bias is not None:
        scores += bias.over(reach.distances)
    scores.masked_fill_(reach.hidden, -torch.inf)
    best = scores.amax(-1).index_select(0, reach.table.flatten()).view(tokens, -1, heads).amax(1)
    shares = scores.sub_(best.index_select(0, reach.owners).unsqueeze(-1)).exp_()
    whole = shares.new_zeros(tokens, heads).index_add_(0, reach.owners, shares.sum(-1))
    parts = torch.bmm(shares.to(v.dtype).view(blocks * kv_heads, -1, BLOCK), v.flatten(0, 1))
    summed = whole.new_zeros(tokens, heads * out_d).index_add_(0, reach.owners, parts.view(blocks, -1).float())
    return (summed.view(tokens, heads, out_d) / whole.unsqueeze(-1)).to(v.dtype)


def _first(kv: SequenceCache, size: int | None) -> int:
    """The first position that the sequence's next token sees."""
    return 0 if size is None else max(0, kv.length + 1 - size)


def _newest(
    query: Tensor, key: Tensor, value: Tensor, scale: float, size: int | None, bias: RelativeBias | None = None
) -> Tensor:
    """Attention of one sequence's new tokens, [heads, new, d], over its visible keys, [kv heads, seen, d] -> [new,
    heads, d]."""
    heads, new, d = query.shape
    kv_heads, seen, _ = key.shape
    k, v = key.unsqueeze(0), value.unsqueeze(0)
    if bias is not None:  # architectures with a bias have neither windows nor shared kv heads
        added = bias.between(new, seen, causal=True).to(query.dtype)
        return scaled_dot_product_attention(query.unsqueeze(0), k, v, added, scale=scale)[0].transpose(0, 1)
    if new == 1:  # the token sees all keys in the window; the query heads of a kv head become its rows
        first = 0 if size is None else max(0, seen - size)
        q = query.reshape(1, kv_heads, -1, d)
        return scaled_dot_product_attention(q, k[:, :, first:], v[:, :, first:], scale=scale).reshape(1, heads, -1)
    is_whole = new == seen and (size is None or size >= new)
    mask = None if is_whole else window(new, seen, size, causal=True, device=query.device)
    # not enable_gqa: on a CPU that switches from the fused kernel to one that writes all scores to memory
    if heads != kv_heads:
        k, v = (x.repeat_interleave(heads // kv_heads, 1) for x in (k, v))
    out = scaled_dot_product_attention(query.unsqueeze(0), k, v, mask, is_causal=is_whole, scale=scale)
    return out[0].transpose(0, 1)


def window(queries: int, keys: int, size: int | None, *, causal: bool, device: torch.device) -> Tensor:
    """The mask of the last `queries` tokens over all keys: nearer than `size`, and none ahead if causal."""
    seen_from = torch.arange(keys - queries, keys, device=device).unsqueeze(1)
    distance = seen_from - torch.arange(keys, device=device)
    near = distance.abs() < (keys if size is None else size)
    return near & (distance >= 0) if causal else near
