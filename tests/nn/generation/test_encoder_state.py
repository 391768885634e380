"""Encoders with a decoder on packed rows and blocks: their answers are transformers' own, whoever shares the row."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from llmos.nn.generation import encoder_state
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache, token_bytes
from llmos.nn.generation.sequence import Generation
from llmos.nn.load import load_folder
from llmos.nn.packing import pack
from llmos.tasks.generate import Sampling
from llmos.testing import tiny

pytestmark = pytest.mark.torch

TEXTS = ("a", "some words", "some other words that are a good deal longer than one block of thirty-two", "ab")
ANSWER = 40  # longer than a block


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    root = tmp_path_factory.mktemp("readers")
    return {name: load_folder(tiny.write(root / name, name)) for name in tiny.READERS}


def theirs(name, ids, most=ANSWER):
    """What transformers' own generate gives, one input at a time, greedy, less what the answer opens with."""
    with torch.inference_mode():
        found = tiny.plain(name).generate(torch.tensor([ids]), max_new_tokens=most, num_beams=1, do_sample=False)
    return found[0].tolist()


def ours(one, sequences, most=ANSWER, step=1):
    """All of them together; `step` tokens of an opening at a time."""
    each = token_bytes(one.config, 4)
    pool = KVCache(each * BLOCK * 64, each)
    room = one.reader.longest
    answers = []
    with torch.inference_mode():
        read = [encoder_state.EncoderState(pool, ids) for ids in sequences]
        for some in read:
            some.hold()
            assert some.kv.grow(some.unread)
        encoder_state.read(one.causal, pack(sequences), [some.kv for some in read])
        for _ in sequences:
            settings = Sampling(temperature=0.0, max_tokens=most - len(one.reader.opening) + 1)
            generation = Generation(one.reader.opening, settings, one.tokenizer, one.ends, room, one.rules)
            answers.append((generation, SequenceCache(pool, b"", one.reader.opening)))
        while live := [i for i, (g, _) in enumerate(answers) if g.finish_reason is None]:
            row = [answers[i][0].next_ids(step) for i in live]
            kvs = [answers[i][1] for i in live]
            for kv, ids in zip(kvs, row, strict=True):
                assert kv.grow(len(ids))
            packed = pack(row, starts=[kv.length for kv in kvs])
            logits = encoder_state.next_logits(one.causal, packed, kvs, [read[i].kv for i in live])
            for i, ids, scores in zip(live, row, logits, strict=True):
                answers[i][1].advance(ids)
                answers[i][0].advance(len(ids), scores)
    for (_, kv), some in zip(answers, read, strict=True):
        kv.release()
        some.drop()
    assert pool.usage.held == 0
    assert pool.usage.tokens_held == 0
    return [[*one.reader.opening, *generation.made] for generation, _ in answers]


@pytest.mark.parametrize("name", tiny.READERS)
def test_greedy_answers_of_a_batch_are_those_of_transformers_one_by_one(loaded, name):
    one = loaded[name]
    sequences = [encoded.ids for encoded in one.tokenizer.encode(TEXTS)]
    assert ours(one, sequences) == [theirs(name, ids) for ids in sequences]
