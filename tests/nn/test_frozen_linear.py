"""Frozen linear layers in fewer bits: how far they round, what flows through them, and what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from torch import nn  # after the skip

from llmos.abi.error import BadInput
from llmos.nn.frozen_linear import FrozenLinear, exactly, freeze_linears
from llmos.nn.load import load_folder
from llmos.testing import tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch


def pair(dtype: str) -> tuple[nn.Linear, FrozenLinear]:
    """A layer, and its copy that is frozen in this dtype."""
    torch.manual_seed(5)
    plain, frozen = nn.Linear(48, 32).requires_grad_(False), nn.Linear(48, 32).requires_grad_(False)
    frozen.load_state_dict(plain.state_dict())
    assert freeze_linears(nn.Sequential(frozen), dtype) == 1
    assert isinstance(frozen, FrozenLinear)
    return plain, frozen


def test_int8_rounds_a_weight_by_at_most_half_a_step_of_its_output():
    plain, frozen = pair("int8")
    steps = plain.weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((frozen.weight - plain.weight).abs() <= steps * 0.5001).all()
    assert frozen.held[0].dtype == torch.int8


@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float32"])
def test_products_and_gradients_are_those_of_the_weight_that_it_holds(dtype):
    _, frozen = pair(dtype)
    x = torch.randn(7, 48, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    y, wanted = frozen(x), nn.functional.linear(other, frozen.weight, frozen.bias)
    torch.testing.assert_close(y, wanted)
    y.sin().sum().backward()
    wanted.sin().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_under_autocast_it_computes_in_that_dtype_with_gradients_in_that_of_inputs(dtype):
    _, frozen = pair(dtype)
    x = torch.randn(7, 48, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = frozen(x)
        wanted = nn.functional.linear(x.detach(), frozen.weight, frozen.bias)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, wanted, atol=3e-2, rtol=3e-2)
    y.float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


def test_inside_exactly_it_computes_with_the_published_weights_and_not_after():
    plain, frozen = pair("int8")
    x = torch.randn(3, 48)
    with exactly(nn.Sequential(frozen)):
        torch.testing.assert_close(frozen(x), plain(x))
        assert torch.equal(frozen.weight, plain.weight)
    assert not torch.equal(frozen(x), plain(x))


def test_it_has_no_weight_to_train_or_to_save():
    _, frozen = pair("int8")
    assert [name for name, _ in frozen.named_parameters()] == ["bias"]
    assert [*frozen.state_dict()] == ["bias"]


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_a_base_has_all_linear_layers_of_its_backbone_frozen(tmp_path: Path, architecture: str):
    tiny.write(tmp_path, architecture)
    backbone = load_folder(tmp_path, linear_dtype="int8").backbone
    layers = [one for one in backbone.modules() if isinstance(one, nn.Linear)]
    assert layers
    assert all(isinstance(one, FrozenLinear) for one in layers)


def test_the_published_weights_are_read_again_from_their_file(tmp_path: Path):
    tiny.write(tmp_path, "bert")
    plain, frozen = load_folder(tmp_path).backbone, load_folder(tmp_path, linear_dtype="int8").backbone
    wanted = dict(plain.named_modules())
    with exactly(frozen):
        for name, one in frozen.named_modules():
            if isinstance(one, FrozenLinear):
                assert torch.equal(one.weight, wanted[name].weight)


def test_an_encoder_with_a_decoder_is_refused(tmp_path: Path):
    tiny.write(tmp_path, "t5")
    with fails_with(BadInput, key="base_dtype"):
        load_folder(tmp_path, linear_dtype="int8")


def resident_bytes(tensor: torch.Tensor) -> int:
    """How much of the mapping that holds this tensor is in memory."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split(maxsplit=1)[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            inside = start <= tensor.data_ptr() < end
        elif inside and first == "Rss:":
            return int(line.split()[1]) * 1024
    raise AssertionError("no mapping holds it")


def test_weights_that_were_rounded_leave_the_memory_and_come_back_from_their_file(tmp_path: Path):
    weight = torch.randn(1024, 1024)
    save_file({"weight": weight}, tmp_path / "model.safetensors")
    layer = nn.Linear(1024, 1024, bias=False)
    layer.load_state_dict(load_file(tmp_path / "model.safetensors"), assign=True)
    layer.requires_grad_(False)
    assert torch.equal(layer.weight, weight)
    mapped = layer.weight.data
    assert resident_bytes(mapped) >= weight.nbytes
    freeze_linears(nn.Sequential(layer), "int8")
    assert resident_bytes(mapped) <= weight.nbytes // 100
    with exactly(nn.Sequential(layer)):
        assert torch.equal(layer.weight, weight)
