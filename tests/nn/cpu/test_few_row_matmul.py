"""Few rows times a layer's weights, whichever way round."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from llmos.nn.cpu.few_row_matmul import MOST_ROWS, TransposedWeights, turn
from llmos.testing.tiny import plain

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 7, MOST_ROWS, MOST_ROWS + 1])
def test_the_answer_is_the_linear_layer_s_whatever_the_rows(rows, has_bias):
    layer = torch.nn.Linear(24, 40, bias=has_bias)
    x = torch.randn(1, rows, 24, generator=torch.Generator().manual_seed(rows))
    wanted = layer(x)
    layer.__class__ = TransposedWeights
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer(x.transpose(1, 2).contiguous().transpose(1, 2)), wanted)


def large(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Whose products take long enough that a clock can tell which way is faster."""
    return torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.Linear(512, 64, bias=False)).to(dtype)


def test_turning_keeps_every_weight_where_it_is():
    model = large()
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    is_turned = turn(model)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before
    assert all(isinstance(m, TransposedWeights) is is_turned for m in model.modules() if isinstance(m, torch.nn.Linear))


def test_a_model_that_is_loaded_again_is_turned_as_before():
    assert len({turn(large(torch.bfloat16)) for _ in range(5)}) == 1


def test_a_model_of_small_layers_stays_as_it_is_whatever_the_clock_says():
    assert not any(turn(copy.deepcopy(plain("llama"))) for _ in range(5))
