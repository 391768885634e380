"""The block manager under any order of events: no block is lost, none is in two places, and what is found is right."""

from __future__ import annotations

from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from llmos.nn.generation.block_pool import BlockPool, next_key, origin
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache

pytestmark = pytest.mark.torch

COUNT = 6
OWNERS = ("base:1", "tuned:1")


def prompt(kind: int, length: int) -> list[int]:
    """Few kinds of prompt, so that many begin alike: `kind` decides the second half of a block."""
    return [(7 * i + (kind if i > BLOCK // 2 else 0)) % 100 for i in range(length)]


class Sequences(RuleBasedStateMachine):
    """Sequences that come, find, grow and go, on a pool that is too small for them."""

    live = Bundle("live")

    def __init__(self) -> None:
        super().__init__()
        self.pool = KVCache(COUNT * BLOCK, 1)
        self.there: dict[SequenceCache, list[int]] = {}  # what each has written
        self.owner: dict[SequenceCache, str] = {}
        self.written: dict[int, tuple[str, list[int]]] = {}  # what lies in each block: whose, and all tokens up to it

    @rule(target=live, owner=st.sampled_from(OWNERS), kind=st.integers(0, 2), length=st.integers(1, 4 * BLOCK))
    def come(self, owner, kind, length):
        ids = prompt(kind, length)
        kv = SequenceCache(self.pool, origin(owner, ""), ids)
        assert kv.resume() < length
        for place, block in enumerate(kv.table):
            assert self.written[block] == (owner, ids[: (place + 1) * BLOCK])
        self.there[kv], self.owner[kv] = ids[: kv.length], owner
        return kv

    @rule(kv=live, count=st.integers(1, 2 * BLOCK), kind=st.integers(0, 2))
    def write(self, kv, count, kind):
        before = self.pool.blocks.available
        lacking = kv.lacks(count)
        if not kv.grow(count):
            assert lacking > before == self.pool.blocks.available
            return
        assert self.pool.blocks.available == before - lacking
        ids = prompt(kind, kv.length + count)[kv.length :]
        self.there[kv] += ids
        for place in range(kv.length // BLOCK, len(kv.table)):
            assert self.pool.blocks.holders(kv.table[place]) == 1, "a block that is written has one holder"
            self.written[kv.table[place]] = (self.owner[kv], self.there[kv][: (place + 1) * BLOCK])
        kv.advance(ids)

    @rule(kv=consumes(live))
    def go(self, kv):
        kv.release()
        assert (kv.length, kv.table) == (0, [])
        del self.there[kv]

    @invariant()
    def every_block_is_in_one_place(self):
        blocks = self.pool.blocks
        holders = Counter(block for kv in self.there for block in kv.table)
        assert [blocks.holders(block) for block in range(COUNT)] == [holders[block] for block in range(COUNT)]
        assert blocks.held_blocks == len(holders)
        usage = self.pool.usage
        assert usage.free + usage.kept + usage.held == COUNT
        assert usage.tokens_held == sum(map(len, self.there.values()))

    @invariant()
    def what_is_held_is_as_it_was_written(self):
        for kv, ids in self.there.items():
            for place, block in enumerate(kv.table[: len(ids) // BLOCK]):
                assert self.written[block] == (self.owner[kv], ids[: (place + 1) * BLOCK])

    def teardown(self):
        for kv in self.there:
            kv.release()
        assert self.pool.blocks.held_blocks == 0
        assert self.pool.blocks.available == COUNT


Sequences.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_no_order_of_events_loses_a_block = Sequences.TestCase


def filled(blocks: BlockPool, name: str) -> int:
    block = blocks.take()
    blocks.fill(block, origin(name))
    blocks.drop(block)
    return block


def test_the_longest_unused_beginning_is_given_up_first():
    blocks = BlockPool(2)
    first, second = filled(blocks, "first"), filled(blocks, "second")
    blocks.hold(first)
    blocks.drop(first)
    assert blocks.take() == second
    assert (blocks.find(origin("first")), blocks.find(origin("second"))) == (first, None)


def test_a_beginning_outlives_what_follows_it():
    pool = KVCache(2 * BLOCK, 1)
    ids = list(range(2 * BLOCK + 1))
    first = SequenceCache(pool, origin("base:1"), ids)
    assert first.grow(2 * BLOCK)
    first.advance(ids[: 2 * BLOCK])
    first.release()
    other = SequenceCache(pool, origin("other:1"), [0])
    assert other.grow(1)
    assert SequenceCache(pool, origin("base:1"), ids).resume() == BLOCK


def test_a_block_that_may_still_be_written_is_not_shared():
    blocks = BlockPool(1)
    with pytest.raises(AssertionError):
        blocks.hold(blocks.take())


def test_a_key_stands_for_all_tokens_so_far_and_for_whose_they_are():
    start = origin("base:1", "")
    assert next_key(start, [1, 2]) == next_key(start, [1, 2])
    others = [
        next_key(start, [2, 1]),
        next_key(next_key(start, [1]), [2]),
        next_key(origin("tuned:1", ""), [1, 2]),
        next_key(origin("base:1", "salt"), [1, 2]),
        next_key(origin("base:1s", "alt"), [1, 2]),
    ]
    assert len({next_key(start, [1, 2]), *others}) == 6


def test_the_pool_says_how_much_was_found():
    pool = KVCache(8 * BLOCK, 1)
    ids = list(range(3 * BLOCK))
    for wanted in (0, 2 * BLOCK):
        kv = SequenceCache(pool, origin("base:1"), ids)
        assert kv.resume() == wanted
        assert kv.grow(len(ids) - kv.length)
        kv.advance(ids[kv.length :])
    assert pool.usage.hit_rate == pytest.approx(1 / 3)
    assert pool.usage.held == 4
