"""Choosing a token: penalties and biases shift, cuts rule out, and what is said of probabilities is the model's own."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.nn.generation.sampling import Sampler, check_biases, score
from llmos.tasks.generate import Sampling
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch


def logits_of(seed, size=12):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3


def greedy(**said):
    return Sampling(temperature=0, **said)


def chosen(said, logits, times, prompt=()):
    sampler = Sampler(said, prompt)
    return [sampler.choose(logits) for _ in range(times)]


def test_a_presence_penalty_counts_once_and_a_frequency_penalty_each_time():
    logits = torch.tensor([3.0, 1.9, 0.0])
    assert chosen(greedy(presence_penalty=1.0), logits, 4) == [0, 0, 0, 0]
    assert chosen(greedy(presence_penalty=1.5), logits, 4) == [0, 1, 0, 0]
    assert chosen(greedy(frequency_penalty=1.0), logits, 6) == [0, 0, 1, 0, 1, 0]


def test_a_repetition_penalty_weakens_what_is_in_the_prompt_too():
    logits = torch.tensor([2.0, 1.5, -1.0, -1.5])
    assert chosen(greedy(), logits, 1, prompt=[0]) == [0]
    assert chosen(greedy(repetition_penalty=1.5), logits, 1, prompt=[0]) == [1]
    assert chosen(greedy(repetition_penalty=1.5), logits[2:], 1, prompt=[0]) == [0]  # -1 becomes -1.5, no less
    assert chosen(greedy(repetition_penalty=1.6), logits[2:], 1, prompt=[0]) == [1]


def test_a_bias_makes_or_forbids_a_token():
    logits = logits_of(1)
    best = int(logits.argmax())
    assert chosen(greedy(logit_bias=((3, 100.0),)), logits, 2) == [3, 3]
    assert best not in chosen(Sampling(temperature=2.0, seed=1, logit_bias=((best, -100.0),)), logits, 200)


def test_a_bias_on_a_token_that_is_not_there_is_refused_with_the_numbers():
    check_biases(Sampling(logit_bias=((11, 1.0),)), 12)
    with fails_with(BadInput, key="logit_bias", token=12):
        check_biases(Sampling(logit_bias=((12, 1.0),)), 12)


@settings(deadline=None)
@given(seed=st.integers(0, 500), min_p=st.floats(0.01, 1), top_k=st.integers(0, 12), top_p=st.floats(0.1, 1))
def test_only_what_all_cuts_leave_is_chosen(seed, min_p, top_k, top_p):
    logits = logits_of(seed)
    shares = logits.softmax(-1)
    ranked = shares.sort(descending=True).indices.tolist()
    left = ranked[: top_k or None]
    total = float(shares[left].sum())
    before = [float(shares[left[:i]].sum()) / total for i in range(len(left))]
    left = [token for token, b in zip(left, before, strict=True) if b < top_p + 1e-6]
    left = [token for token in left if shares[token] >= min_p * shares.max() - 1e-6]
    said = Sampling(temperature=1.0, seed=seed, min_p=min_p, top_k=top_k, top_p=top_p)
    assert set(chosen(said, logits, 30)) <= set(left)


def test_tokens_are_chosen_as_often_as_their_share_says():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    counts = torch.bincount(torch.tensor(chosen(Sampling(temperature=1.0, seed=3), logits, 8000)), minlength=4)
    assert (counts / 8000).tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=0.02)


def test_the_likeliest_of_a_large_vocabulary_are_cut_the_same_whether_few_or_many():
    flat, steep = torch.zeros(5000), -torch.arange(5000) / 10
    some = set(chosen(Sampling(temperature=1.0, seed=1, top_p=0.5), flat, 300))
    assert len(some) > 250  # 2,500 equally likely ones are more than are looked at first
    assert max(chosen(Sampling(temperature=1.0, seed=1, top_p=0.5), steep, 300)) <= 7


def test_a_seed_decides_whatever_the_neighbours_do():
    logits = [logits_of(i, 300) for i in range(20)]
    alone, other = Sampler(Sampling(temperature=1.0, seed=5)), Sampler(Sampling(temperature=1.0, seed=6))
    told = [alone.choose(one) for one in logits]
    again = Sampler(Sampling(temperature=1.0, seed=5))
    assert [(again.choose(one), other.choose(one))[0] for one in logits] == told


@settings(deadline=None)
@given(seed=st.integers(0, 500))
def test_logprobs_are_those_of_the_unmodified_distribution(seed):
    logits = logits_of(seed)
    sampler = Sampler(
        Sampling(temperature=1.7, seed=seed, top_k=3, presence_penalty=2.0, logit_bias=((1, 50.0),), top_logprobs=3)
    )
    for _ in range(3):
        token = sampler.choose(logits)
        told = sampler.scored
        expected = logits.double().log_softmax(-1)
        assert told.token == token
        assert told.logprob == pytest.approx(float(expected[token]), abs=1e-5)
        assert [t for t, _ in told.top] == expected.topk(3).indices.tolist()
        assert [p for _, p in told.top] == sorted((p for _, p in told.top), reverse=True)


def test_half_precision_logits_are_scored_in_float32():
    logits = logits_of(4, 5000).bfloat16()
    told = score(logits, 7, 2)
    assert told.logprob == pytest.approx(float(logits.double().log_softmax(-1)[7]), abs=1e-5)


def test_an_impossible_token_has_a_number_all_the_same():
    assert score(torch.tensor([0.0, -torch.inf]), 1, 2).logprob == -9999.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_scores_that_are_not_numbers_are_refused(bad, temperature):
    logits = torch.tensor([0.0, bad, 1.0])
    if temperature == 0 and bad == math.inf:
        pytest.skip("the largest of all can be chosen")
    with fails_with(BadInput, reason="not_finite"):
        Sampler(Sampling(temperature=temperature, seed=1)).choose(logits)
