"""Frozen linear layers in fewer bits: how far they round, what flows through them, and what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from torch import nn  # after the skip

from llmos.abi.error import BadInput
from llmos.nn.cpu.few_row_matmul import TransposedWeights
from llmos.nn.frozen_linear import CopiedLinears, FrozenLinear, exactly, freeze_linears
from llmos.nn.held_weight import HeldInt8, hold
from llmos.nn.load import load_folder
from llmos.nn.packing import forward, pack
from llmos.testing import tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch


def pair(dtype: str) -> tuple[nn.Linear, FrozenLinear]:
    """A layer, and its copy that is frozen in this dtype."""
    torch.manual_seed(5)
    plain, frozen = nn.Linear(64, 32).requires_grad_(False), nn.Linear(64, 32).requires_grad_(False)
    frozen.load_state_dict(plain.state_dict())
    assert freeze_linears(nn.Sequential(frozen), dtype) == 1
    assert isinstance(frozen, FrozenLinear)
    return plain, frozen


def test_int8_rounds_a_weight_by_at_most_half_a_step_of_its_output():
    plain, frozen = pair("int8")
    steps = plain.weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((frozen.weight - plain.weight).abs() <= steps * 0.5001).all()
    assert isinstance(frozen.held, HeldInt8)
    assert frozen.held.rounded.dtype == torch.int8


def test_int4_rounds_a_weight_by_at_most_half_a_step_of_its_block_in_5_bits():
    plain, frozen = pair("int4")
    blocks = plain.weight.view(32, 2, 32)
    steps = (blocks.amax(-1) - blocks.amin(-1)) / 15
    off = (frozen.weight - plain.weight).abs().view(32, 2, 32).amax(-1)
    assert (off <= 0.51 * steps + 2e-4 * blocks.abs().amax(-1) * 15).all()  # the ends are rounded to 11 bits
    assert frozen.held.nbytes * 8 == 5 * plain.weight.numel()


def test_int4_keeps_equal_weights_and_what_has_no_whole_blocks_is_in_int8():
    assert torch.equal(hold(torch.full((3, 64), 0.5), "int4").plain(), torch.full((3, 64), 0.5))
    assert isinstance(hold(torch.randn(3, 48), "int4"), HeldInt8)


@pytest.mark.parametrize("dtype", ["int4", "int8", "bfloat16", "float32"])
def test_products_and_gradients_are_those_of_the_weight_that_it_holds(dtype):
    _, frozen = pair(dtype)
    x = torch.randn(7, 64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    y, wanted = frozen(x), nn.functional.linear(other, frozen.weight, frozen.bias)
    torch.testing.assert_close(y, wanted)
    y.sin().sum().backward()
    wanted.sin().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


@pytest.mark.parametrize("dtype", ["int4", "int8", "bfloat16"])
def test_under_autocast_it_computes_in_that_dtype_with_gradients_in_that_of_inputs(dtype):
    _, frozen = pair(dtype)
    x = torch.randn(7, 64, requires_grad=True)
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
    x = torch.randn(3, 64)
    with exactly(nn.Sequential(frozen)):
        torch.testing.assert_close(frozen(x), plain(x))
        assert torch.equal(frozen.weight, plain.weight)
    assert not torch.equal(frozen(x), plain(x))


@pytest.mark.parametrize("size", [1, 7, 300])
def test_in_bfloat16_under_autocast_it_has_the_bits_of_a_plain_layer(size):
    plain, frozen = pair("bfloat16")
    x = torch.randn(size, 64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y, wanted = frozen(x), plain(other)
    assert torch.equal(y, wanted)
    y.float().sin().sum().backward()
    wanted.float().sin().sum().backward()
    assert x.grad is not None
    assert other.grad is not None
    assert torch.equal(x.grad, other.grad)


def test_copies_last_for_a_block_and_leave_the_same_parameters_in_the_same_order():
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 8, bias=False), nn.Linear(8, 4))
    model.requires_grad_(False)
    model[2].weight.requires_grad_(True)
    before = list(model.named_parameters())
    copies = CopiedLinears(model, "bfloat16")
    assert len(copies) == 2
    with copies.computing():
        assert isinstance(model[0], FrozenLinear)
        assert type(model[2]) is nn.Linear
    after = list(model.named_parameters())
    assert all(one is other and name == same for (name, one), (same, other) in zip(before, after, strict=True))
    assert all(type(one) is nn.Linear for one in model)
    assert not any(hasattr(one, "held") for one in model)
    copies.release()
    assert not copies


@pytest.mark.parametrize("architecture", ["bert", "llama", "gemma3_text"])
def test_copies_change_no_bit_of_a_whole_backbone_under_autocast(tmp_path: Path, architecture: str):
    tiny.write(tmp_path, architecture)
    backbone = load_folder(tmp_path).backbone
    packed = pack([range(5, 45), range(60, 67)])
    copies = CopiedLinears(backbone, "bfloat16")
    with torch.autocast("cpu", torch.bfloat16):
        plain = forward(backbone, packed)
        with copies.computing():
            copied = forward(backbone, packed)
    assert torch.equal(plain, copied)


def test_a_layer_that_was_turned_for_few_rows_computes_as_a_plain_one_in_its_copy():
    plain, turned = (nn.Linear(64, 32).requires_grad_(False) for _ in range(2))
    turned.load_state_dict(plain.state_dict())
    turned.__class__ = TransposedWeights
    x = torch.randn(17, 64)
    copies = CopiedLinears(nn.Sequential(turned), "bfloat16")
    with torch.autocast("cpu", torch.bfloat16), copies.computing():
        assert torch.equal(turned(x), plain(x))
    assert type(turned) is TransposedWeights


def test_it_has_no_weight_to_train_or_to_save():
    _, frozen = pair("int8")
    assert [name for name, _ in frozen.named_parameters()] == ["bias"]
    assert [*frozen.state_dict()] == ["bias"]


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_a_base_has_all_linear_layers_of_its_backbone_frozen(tmp_path: Path, architecture: str, dtype: str):
    tiny.write(tmp_path, architecture)
    backbone = load_folder(tmp_path, linear_dtype=dtype).backbone
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


@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_weights_that_were_rounded_leave_the_memory_and_come_back_from_their_file(tmp_path: Path, dtype: str):
    weight = torch.randn(1024, 1024)
    save_file({"weight": weight}, tmp_path / "model.safetensors")
    layer = nn.Linear(1024, 1024, bias=False)
    layer.load_state_dict(load_file(tmp_path / "model.safetensors"), assign=True)
    layer.requires_grad_(False)
    assert torch.equal(layer.weight, weight)
    mapped = layer.weight.data
    assert resident_bytes(mapped) >= weight.nbytes
    freeze_linears(nn.Sequential(layer), dtype)
    assert resident_bytes(mapped) <= weight.nbytes // 100
    with exactly(nn.Sequential(layer)):
        assert torch.equal(layer.weight, weight)
