"""Padded groups attend as torch's own function does in each sequence, and so do their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from llmos.nn.padded_attention import STEP, arrange, attend_padded

pytestmark = pytest.mark.torch

HEADS, WIDTH, SCALE = 3, 8, 0.3
ROWS = [(5,), (4, 4, 4), (1, 2, 3), (7, 40, 7, 16, 17, 1, 33), (STEP, STEP + 1, STEP - 1)]


def inputs(lengths: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(sum(lengths))
    return [torch.randn(HEADS, sum(lengths), WIDTH, requires_grad=True) for _ in range(3)]


def one_by_one(qkv: list[Tensor], lengths: tuple[int, ...], *, causal: bool) -> Tensor:
    parts = zip(*(torch.split(x, list(lengths), 1) for x in qkv), strict=True)
    outs = [scaled_dot_product_attention(q, k, v, is_causal=causal, scale=SCALE) for q, k, v in parts]
    return torch.cat(outs, 1).transpose(0, 1)


@pytest.mark.parametrize("lengths", ROWS)
@pytest.mark.parametrize("causal", [False, True])
def test_without_dropout_it_is_the_attention_of_each_sequence(lengths: tuple[int, ...], causal: bool) -> None:
    mine, theirs = inputs(lengths), inputs(lengths)
    out = attend_padded(*mine, lengths, 0.0, SCALE, causal=causal)
    expected = one_by_one(theirs, lengths, causal=causal)
    torch.testing.assert_close(out, expected)
    weights = torch.randn(out.shape)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_the_gradients_with_dropout_are_those_of_differences() -> None:
    lengths = (2, 3)
    qkv = [x.detach().double().requires_grad_() for x in inputs(lengths)]

    def attend(*qkv: Tensor) -> Tensor:
        torch.manual_seed(5)  # the same weights are dropped in every pass
        return attend_padded(*qkv, lengths, 0.4, SCALE, causal=False)

    assert torch.autograd.gradcheck(attend, qkv)


def test_dropout_drops_weights_by_the_seed() -> None:
    lengths = (3, 9)
    qkv = inputs(lengths)
    torch.manual_seed(1)
    first = attend_padded(*qkv, lengths, 0.5, SCALE, causal=False)
    torch.manual_seed(1)
    assert torch.equal(attend_padded(*qkv, lengths, 0.5, SCALE, causal=False), first)
    assert not torch.equal(attend_padded(*qkv, lengths, 0.5, SCALE, causal=False), first)


def test_sequences_of_similar_lengths_are_one_group_wherever_they_stand() -> None:
    arranged = arrange((20, 3, 18, 5, 20))
    assert [(one.count, one.length) for one in arranged.groups] == [(3, 20), (2, 5)]
    assert arranged.back is not None
    assert sorted(arranged.back.tolist())[:3] == [0, 1, 2]
    assert len(set(arranged.back.tolist())) == 66
