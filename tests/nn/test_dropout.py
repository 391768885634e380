"""Dropout by few bits: how much it drops, what it scales by, and that a seed gives the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llmos.nn.dropout import FastDropout, draw_fast, dropout_factors

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_about_this_share_is_dropped_and_the_mean_stays(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    factors = dropout_factors((1003, 101), share, dtype)
    assert factors.dtype == dtype
    assert factors.unique().tolist() in ([1.0], [0.0, pytest.approx(1 / (1 - share), rel=1e-2)])
    assert abs(float((factors == 0).float().mean()) - share) < 0.005
    assert abs(float(factors.float().mean()) - 1) < 0.02


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(3)
    dropped = (dropout_factors((200_000,), 0.5, torch.float32) == 0).float()
    for distance in (1, 2, 3, 4, 5, 8):
        both = float((dropped[:-distance] * dropped[distance:]).mean())
        assert abs(both - 0.25) < 0.006


def test_the_same_seed_drops_the_same() -> None:
    torch.manual_seed(3)
    first = dropout_factors((5, 7), 0.3, torch.float32)
    torch.manual_seed(3)
    assert torch.equal(dropout_factors((5, 7), 0.3, torch.float32), first)


def test_modules_drop_in_training_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.0)))
    draw_fast(model)
    assert type(model[1]) is FastDropout
    x = torch.ones(100, 4, requires_grad=True)
    out = model.train()[1](x)
    assert set(out.detach().unique().tolist()) == {0.0, 2.0}
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    assert torch.equal(model.eval()[1](x), x)
    assert torch.equal(model.train()[2](x), x)
