"""Generating: stop strings never show, seeds decide, and what is ruled out is never chosen."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from llmos.nn.generation.sampling import Sampler
from llmos.nn.generation.sequence import StopBuffer
from llmos.tasks.generate import Sampling

pytestmark = pytest.mark.torch

letters = st.text("abc", max_size=20)


@given(pieces=st.lists(letters, max_size=6), stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_what_is_said_is_the_text_before_the_first_stop_string(pieces, stops):
    held = StopBuffer(stops)
    said = "".join(held.push(piece) for piece in pieces)
    whole = "".join(pieces)
    if held.is_stopped:
        assert held.found in stops
        assert whole[len(said) :].startswith(held.found)
        assert not any(stop in said for stop in stops)
        assert held.flush() == ""
    else:
        assert held.found is None
        assert not any(stop in whole for stop in stops)
        assert said + held.flush() == whole


def test_the_beginning_of_a_stop_string_waits():
    held = StopBuffer(["###"])
    assert [held.push(piece) for piece in ("one#", "#", "two#", "##", "more")] == ["one", "", "##two", "", ""]
    assert held.is_stopped


def test_the_same_seed_chooses_the_same_tokens():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    first, second = (Sampler(Sampling(temperature=1.0, seed=5)) for _ in range(2))
    assert [first.choose(logits) for _ in range(20)] == [second.choose(logits) for _ in range(20)]


def test_temperature_nought_takes_the_best():
    assert Sampler(Sampling(temperature=0)).choose(torch.tensor([0.0, 3.0, 1.0])) == 1


@given(top_k=st.integers(1, 10), seed=st.integers(0, 1000))
def test_only_the_top_k_are_chosen(top_k, seed):
    logits = torch.randn(10, generator=torch.Generator().manual_seed(seed))
    best = set(logits.topk(top_k).indices.tolist())
    sampler = Sampler(Sampling(temperature=2.0, top_k=top_k, seed=seed))
    assert {sampler.choose(logits) for _ in range(20)} <= best


@pytest.mark.parametrize(("top_p", "kept"), [(0.0, {0}), (0.5, {0}), (0.6, {0, 1}), (0.95, {0, 1, 2})])
def test_only_the_first_top_p_of_probability_is_chosen(top_p, kept):
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    sampler = Sampler(Sampling(temperature=1.0, top_p=top_p, seed=1))
    assert {sampler.choose(logits) for _ in range(200)} == kept
