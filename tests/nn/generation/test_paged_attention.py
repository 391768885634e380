"""Going on from a pool's blocks gives what the whole sequence gives, wherever they lie and whoever shares them."""

from __future__ import annotations

import copy
from functools import cache

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.nn.attention import NAME
from llmos.nn.generation.block_pool import origin
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache, token_bytes
from llmos.nn.packing import forward, next_logits, pack
from llmos.testing.tiny import DECODERS, SHARED, plain

pytestmark = pytest.mark.torch

MINE = origin("tiny:1", "")


@cache
def packed_model(architecture):
    model = copy.deepcopy(plain(architecture))
    model.set_attn_implementation(NAME)
    return model


def sequence(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, SHARED["vocab_size"], (length,), generator=generator).tolist()


def whole(architecture, ids):
    with torch.inference_mode():
        return plain(architecture).base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]


def go_on(architecture, parts):
    """One step: the next tokens of each sequence; returns the hidden states of each."""
    kvs = [kv for kv, _ in parts]
    for kv, ids in parts:
        assert kv.grow(len(ids))
    with torch.inference_mode():
        row = pack([ids for _, ids in parts], starts=[kv.length for kv in kvs])
        out = forward(packed_model(architecture).base_model, row, kvs)
    for kv, ids in parts:
        kv.advance(ids)
    return out.split([len(ids) for _, ids in parts])


pieces = st.lists(st.one_of(st.just(1), st.integers(1, 40)), min_size=1, max_size=6)


@pytest.mark.parametrize("architecture", DECODERS)
@given(cuts=st.lists(pieces, min_size=1, max_size=4), holes=st.lists(st.booleans(), max_size=8))
@settings(max_examples=25, deadline=None)
def test_going_on_piece_by_piece_equals_computing_the_whole_sequence(architecture, cuts, holes):
    cuts = [[piece for i, piece in enumerate(one) if sum(one[: i + 1]) <= 120] for one in cuts]
    pool = KVCache(32 * BLOCK, 1)
    taken = [pool.blocks.take() for _ in holes]
    for block, is_hole in zip(taken, holes, strict=True):
        if is_hole:
            pool.blocks.drop(block)
    sequences = [sequence(sum(one), seed) for seed, one in enumerate(cuts)]
    kvs = [SequenceCache(pool, MINE, ids) for ids in sequences]
    got = [[] for _ in cuts]
    for step in range(max(map(len, cuts))):
        live = [i for i, one in enumerate(cuts) if step < len(one)]
        parts = [(kvs[i], sequences[i][kvs[i].length :][: cuts[i][step]]) for i in live]
        for i, hidden in zip(live, go_on(architecture, parts), strict=True):
            got[i].append(hidden)
    for ids, parts in zip(sequences, got, strict=True):
        if ids:
            torch.testing.assert_close(torch.cat(parts), whole(architecture, ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", DECODERS)
def test_in_a_smaller_dtype_a_token_sees_the_same_however_a_sequence_is_cut(architecture):
    ids = sequence(80)

    def computed(pieces, dtype):
        pool = KVCache(8 * BLOCK, 1, dtype=dtype)
        kvs = [SequenceCache(pool, MINE, ids), SequenceCache(pool, origin("tiny:2", ""), [])]
        parts = [go_on(architecture, [(kvs[0], ids[kvs[0].length :][:some]), (kvs[1], [5])])[0] for some in pieces]
        assert {x.dtype for x in pool.layer(0, torch.empty(0), torch.empty(0))} == {dtype or torch.float32}
        return torch.cat(parts)

    exact, once = computed([80], None), computed([80], torch.float16)
    assert not torch.equal(exact, once)
    torch.testing.assert_close(once, exact, atol=1e-2, rtol=1e-2)
    for pieces in ([33, 47], [1] * 20 + [60], [79, 1]):
        torch.testing.assert_close(computed(pieces, torch.float16), once, atol=2e-3, rtol=2e-3)  # rounded either way


@pytest.mark.parametrize("architecture", DECODERS)
def test_sequences_that_share_a_beginning_compute_as_if_they_were_alone(architecture):
    pool = KVCache(32 * BLOCK, 1)
    shared = sequence(2 * BLOCK)
    first = SequenceCache(pool, MINE, shared)
    go_on(architecture, [(first, shared)])
    tails = [sequence(8, seed) for seed in (1, 2, 3)]
    others = [SequenceCache(pool, MINE, shared + tail) for tail in tails]
    assert [kv.resume() for kv in others] == [2 * BLOCK] * 3
    assert pool.blocks.held_blocks == 2
    got = [
        go_on(architecture, [(kv, tail[i : i + 1]) for kv, tail in zip(others, tails, strict=True)]) for i in range(8)
    ]
    for i, tail in enumerate(tails):
        expected = whole(architecture, shared + tail)[2 * BLOCK :]
        torch.testing.assert_close(torch.cat([step[i] for step in got]), expected, atol=1e-5, rtol=1e-5)


def test_what_is_no_number_stays_with_the_sequence_that_made_it():
    pool = KVCache(4 * BLOCK, 1)
    bad = SequenceCache(pool, MINE, [5])
    go_on("llama", [(bad, sequence(20))])
    keys, values = pool.layer(0, torch.empty(2, 1, 16), torch.empty(2, 1, 16))
    with torch.inference_mode():
        keys[bad.table[0]] = values[bad.table[0]] = torch.nan
        bad.wipe()
    bad.release()
    kvs = [SequenceCache(pool, MINE, [6]), SequenceCache(pool, MINE, [7])]
    for start in range(3):
        out = go_on("llama", [(kv, sequence(start + 1)[start:]) for kv in kvs])
    torch.testing.assert_close(out[1], whole("llama", sequence(3))[2:], atol=1e-5, rtol=1e-5)


def test_a_token_takes_the_bytes_that_the_pool_sets_aside_for_it():
    pool = KVCache(4 * BLOCK, 1)
    kv = SequenceCache(pool, MINE, [5])
    go_on("llama", [(kv, [5, 6])])
    held = sum(x.nbytes for i in range(3) for x in pool.layer(i, torch.empty(0), torch.empty(0)))
    assert held == token_bytes(plain("llama").config, 4) * pool.capacity


@pytest.mark.parametrize("architecture", DECODERS)
def test_logits_come_from_each_sequence_s_last_token(architecture):
    pool = KVCache(8 * BLOCK, 1)
    sequences = [sequence(40), sequence(1, 1), sequence(33, 2)]
    kvs = [SequenceCache(pool, MINE, ids) for ids in sequences]
    assert all(kv.grow(len(ids)) for kv, ids in zip(kvs, sequences, strict=True))
    with torch.inference_mode():
        got = next_logits(packed_model(architecture), pack(sequences), kvs)
        wanted = [plain(architecture)(input_ids=torch.tensor([ids])).logits[0, -1] for ids in sequences]
    torch.testing.assert_close(got, torch.stack(wanted), atol=1e-4, rtol=1e-4)
