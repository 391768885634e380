"""The packed forward pass gives what transformers gives one by one."""

from __future__ import annotations

import copy
from functools import cache

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.nn.attention import NAME, Layout
from llmos.nn.generation.paged_attention import window
from llmos.nn.packing import BLOCK, fill, forward, pack, pool
from llmos.testing.errors import fails_with
from llmos.testing.tiny import ARCHITECTURES, SHARED, plain

pytestmark = pytest.mark.torch

lengths_of_rows = st.lists(st.integers(1, 24), min_size=1, max_size=7)


@cache
def packed_model(architecture):
    model = copy.deepcopy(plain(architecture))
    if model._supports_attention_backend:
        model.set_attn_implementation(NAME)
    return model


def sequences_of(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, SHARED["vocab_size"], (length,), generator=generator).tolist() for length in lengths]


def one_by_one(model, sequences):
    return torch.cat([model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0] for ids in sequences])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@given(lengths=lengths_of_rows)
@settings(max_examples=12, deadline=None)
def test_a_packed_row_equals_its_sequences_one_by_one(architecture, lengths):
    sequences = sequences_of(lengths)
    with torch.inference_mode():
        expected = one_by_one(plain(architecture), sequences)
        got = forward(packed_model(architecture).base_model, pack(sequences))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama"])
@given(order=st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_the_order_within_a_row_changes_no_sequence(architecture, order):
    sequences = sequences_of([3, 9, 9, 1, 14])
    model = packed_model(architecture).base_model
    with torch.inference_mode():
        straight = forward(model, pack(sequences)).split([len(s) for s in sequences])
        mixed = forward(model, pack([sequences[i] for i in order])).split([len(sequences[i]) for i in order])
    for place, i in enumerate(order):
        torch.testing.assert_close(mixed[place], straight[i], atol=1e-5, rtol=1e-5)


@given(lengths=st.lists(st.integers(1, 600), min_size=1, max_size=40))
def test_a_filled_row_has_few_lengths_and_its_own_sequences_first(lengths):
    sequences = [[7] * length for length in lengths]
    row = fill(sequences)
    total, before = sum(map(len, row)), sum(lengths)
    assert row[: len(sequences)] == sequences
    assert total % BLOCK == 0
    assert 0 <= total - before < max(BLOCK, before / 15)
    assert max(map(len, row)) == max(lengths), "a filler must not be longer than what the model was given"
    assert len({sum(map(len, fill([[7] * n]))) for n in range(1, before + 1)}) <= 16 * before.bit_length()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_of_a_packed_row_equal_those_of_its_sequences(architecture):
    sequences = sequences_of([5, 17, 17, 2, 11])
    alone, packed = copy.deepcopy(plain(architecture)), copy.deepcopy(packed_model(architecture))
    weights = torch.randn(sum(map(len, sequences)), 32, generator=torch.Generator().manual_seed(2))
    (one_by_one(alone, sequences) * weights).sum().backward()
    (forward(packed.base_model, pack(sequences)) * weights).sum().backward()
    wanted = {name: p.grad for name, p in alone.base_model.named_parameters() if p.grad is not None}
    got = {name: p.grad for name, p in packed.base_model.named_parameters() if p.grad is not None}
    assert wanted.keys() == got.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-5 * float(gradient.abs().max().clamp(min=1)), rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no CUDA device here")
@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_computes_the_packed_row_as_the_cpu_does(architecture, dtype):
    sequences = sequences_of([5, 17, 17, 2, 24])
    there = copy.deepcopy(packed_model(architecture)).to("cuda", dtype)
    with torch.inference_mode():
        expected = forward(packed_model(architecture).base_model, pack(sequences))
        got = forward(there.base_model, pack(sequences, "cuda")).float().cpu()
    assert torch.cosine_similarity(got, expected, dim=-1).min() > (0.99999 if dtype == torch.float32 else 0.999)


@given(lengths=lengths_of_rows)
def test_runs_cover_a_row_exactly_once_in_order(lengths):
    covered = []
    for start, count, length in Layout(tuple(lengths)).runs():
        assert start == sum(covered)
        covered += [length] * count
    assert covered == lengths


def test_a_window_sees_the_nearest_keys_only():
    sees = window(3, 5, 2, causal=True, device=torch.device("cpu"))
    assert sees.int().tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]


@given(lengths=lengths_of_rows, how=st.sampled_from(["mean", "cls", "last", "max"]))
@settings(deadline=None)
def test_pooling_takes_each_sequence_alone(lengths, how):
    hidden = torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(1))
    expected = []
    for part in hidden.split(lengths):
        alone = {"mean": part.mean(0), "cls": part[0], "last": part[-1], "max": part.max(0).values}
        expected.append(alone[how])
    torch.testing.assert_close(pool(hidden, lengths, how), torch.stack(expected))


def test_an_empty_sequence_is_refused():
    with fails_with(BadInput, reason="empty"):
        pack([[1, 2], []])


def test_an_unknown_pooling_names_the_known_ones():
    with fails_with(BadInput, pooling="median", expected=["mean", "cls", "last", "max"]):
        pool(torch.zeros(2, 3), [2], "median")
