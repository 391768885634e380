"""Weights of 4 bits are found in the floats that stand for them, kept to the last bit, and multiplied as they are."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from llmos.abi.error import Corrupt
from llmos.nn import resident
from llmos.nn.attention import NAME
from llmos.nn.cpu import int4, int8_linear
from llmos.nn.cpu.cpu_kernels import kernels
from llmos.nn.cpu.fused import fuse
from llmos.nn.cpu.int4 import FINE, Int4Weights
from llmos.nn.cpu.int8_linear import Int8
from llmos.nn.load import load_folder
from llmos.nn.packing import forward, pack
from llmos.testing import tiny

pytestmark = pytest.mark.torch
compiled = pytest.mark.skipif(kernels() is None, reason="there is no C compiler here, and floats depend on the batch")
DOWN = "model.layers.0.mlp.down_proj"


def drawn(outs, blocks, seed, *, is_centred=False):
    """Weights as a GGUF file has them: in Q4_1, or centred as in Q4_0; every block's first number is 0."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (outs, blocks * FINE // 2), dtype=torch.uint8, generator=generator)
    codes[:, :: FINE // 2] &= 0xF0
    scale = torch.randn(outs, blocks, generator=generator).half()
    least = -8 * scale if is_centred else torch.randn(outs, blocks, generator=generator).half()
    return Int4Weights(codes, scale if is_centred else scale.abs(), least)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 10_000), st.booleans())
@settings(deadline=None, max_examples=50)
def test_what_was_quantized_to_4_bits_is_found_to_the_last_bit(outs, blocks, seed, is_centred):
    floats = int4.plain(drawn(outs, blocks, seed, is_centred=is_centred))
    found = int4.recover_int4(floats)
    assert found is not None
    assert torch.equal(int4.plain(found), floats)
    assert int4.is_sound(found, floats.shape)


def test_blocks_of_one_number_and_of_few_are_found():
    floats = torch.stack([torch.zeros(FINE), torch.full((FINE,), 0.75), torch.tensor([0.0, 0.5] * (FINE // 2))])
    assert torch.equal(int4.plain(int4.recover_int4(floats)), floats)


@pytest.mark.parametrize(
    "floats",
    [
        normal(4, FINE),
        normal(4, FINE + 8).round(),
        torch.full((4, FINE), float("nan")),
        torch.full((4, FINE), 1e6),
        torch.cat([torch.zeros(1, FINE), normal(3, FINE)]),
        torch.arange(FINE).float().expand(4, FINE),
        torch.zeros(0, FINE),
    ],
)
def test_other_numbers_are_not_taken_for_4_bits(floats):
    assert int4.recover_int4(floats) is None


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize(("rows", "outs", "blocks"), [(1, 16, 1), (3, 40, 3), (6, 48, 26), (131, 33, 2)])
def test_a_product_is_that_of_rounded_inputs_and_exact_weights(rows, outs, blocks, is_compiled):
    weights, bias, x = drawn(outs, blocks, seed=rows), normal(outs), normal(rows, blocks * FINE, seed=rows)
    of = x.view(rows, blocks, FINE)
    worth = (of.abs().amax(-1, keepdim=True) / 127).double()
    rounded = ((of / worth).round() * worth).flatten(1)
    wanted = rounded @ int4.plain(weights).double().T + bias.double()
    with torch.inference_mode():
        given = Int8(weights, bias, is_compiled=is_compiled)(x)
    edge = worth.max() * int4.plain(weights).abs().max()  # a number on the edge may be rounded either way
    assert ((given - wanted).abs() <= edge * 1.01).all()
    assert ((given - wanted).abs() < 1e-4 * wanted.abs().max()).double().mean() > 0.9


def test_the_largest_numbers_do_not_overflow():
    weights = Int4Weights(
        torch.full((16, FINE), 255, dtype=torch.uint8), torch.ones(16, 2).half(), torch.zeros(16, 2).half()
    )
    with torch.inference_mode():
        given = Int8(weights, None)(torch.full((5, 2 * FINE), -127.0))
    assert torch.equal(given, torch.full((5, 16), -127.0 * 15 * 2 * FINE))


@compiled
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 140), at=st.integers(0, 139), loud=st.floats(0.01, 1e6))
def test_a_row_is_the_same_to_the_bit_alone_and_beside_any_others(seed, rows, at, loud):
    layer, x = Int8(drawn(40, 3, seed), None), normal(rows, 3 * FINE, seed=seed)
    at %= rows
    x[(at + 1) % rows] *= loud
    with torch.inference_mode():
        assert torch.equal(layer(x[at : at + 1])[0], layer(x)[at])


def test_what_is_no_number_stays_in_its_row_and_is_seen_there():
    x = normal(3, 2 * FINE)
    x[1, 40] = float("nan")
    with torch.inference_mode():
        given = Int8(drawn(20, 2, seed=1), None)(x)
    assert given[[0, 2]].isfinite().all()
    assert not given[1].isfinite().any()


@compiled
def test_the_weights_take_five_bits_each_and_can_be_read_again():
    weights = drawn(32, 4, seed=2)
    layer = Int8(weights, None)
    assert layer.size_bytes == 32 * 4 * FINE * 5 // 8
    assert torch.equal(layer.weight, int4.plain(weights))


def decoder():
    """One whose layers have whole blocks of inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model("llama", **tiny.DECODER | {"hidden_size": 64, "intermediate_size": 96})
        return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A decoder some of whose layers have weights of 4 bits, as one that was read from a GGUF file has."""
    root = tmp_path_factory.mktemp("nibbles")
    model = decoder()
    for seed, layer in enumerate(one for one in model.model.modules() if isinstance(one, nn.Linear)):
        weights = drawn(layer.out_features, layer.in_features // FINE, seed)
        layer.weight.data = int4.plain(weights._replace(scale=weights.scale * 0.02, least=weights.least * 0.1))
    tiny.write(root / "source", "llama")
    model.save_pretrained(root / "source")
    resident.make(root / "source", "int8", root / "form")
    return root


def test_layers_of_4_bits_stay_these_in_the_form_and_others_become_int8(source):
    loaded = load_folder(source / "form", dtype="int8")
    layers = {path: layer for path, layer in loaded.causal.named_modules() if isinstance(layer, Int8)}
    assert {path: layer.is_nibbles for path, layer in layers.items()} == {path: path != "lm_head" for path in layers}
    exact = load_file(source / "source" / "model.safetensors")
    assert all(torch.equal(x.weight, exact[f"{path}.weight"]) for path, x in layers.items() if x.is_nibbles)
    if kernels() is not None:
        assert loaded.weights_bytes == sum(x.nbytes for x in load_file(source / "form" / "model.safetensors").values())


def test_a_folder_in_float_becomes_the_same_model_and_stays_near_it(source):
    row = pack([[2, 30, 40, 3], [2, 50, 3]])
    with torch.inference_mode():
        made, kept, exact = (
            forward(load_folder(source / name, dtype=dtype).backbone, row)
            for name, dtype in (("source", "int8"), ("form", "int8"), ("source", "float32"))
        )
    assert torch.equal(made, kept)
    assert torch.cosine_similarity(kept, exact, dim=-1).min() > 0.999


@compiled
def test_layers_of_both_kinds_are_a_loop_only_where_those_of_one_input_are_alike(source):
    for changed, count in (("self_attn.o_proj", 3), ("mlp.down_proj", 3), ("self_attn.k_proj", 2), ("mlp.up_proj", 2)):
        model = decoder()
        model.set_attn_implementation(NAME)
        model.load_state_dict(load_file(source / "source" / "model.safetensors"), strict=False)
        layer = model.get_submodule(f"model.layers.0.{changed}")
        layer.weight.data = layer.weight + 0.001 * normal(*layer.weight.shape)
        int8_linear.quantize(model)
        fuse(model)
        assert sum(hasattr(one, "is_whole") for one in model.modules()) == count


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weight", lambda x: x[:, :-1].contiguous()),
        ("weight", lambda x: x.to(torch.int8)),
        ("weight_scale", lambda x: x[:-1].clone()),
        ("weight_scale", lambda x: x.float()),
        ("weight_least", lambda x: x * float("nan")),
        ("weight_least", None),
    ],
)
def test_a_form_that_is_not_what_was_made_is_corrupt(source, tmp_path, name, change):
    (tmp_path / "form").mkdir()
    for path in (source / "form").iterdir():
        (tmp_path / "form" / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "form" / "model.safetensors"
    weights = {key: x.clone() for key, x in load_file(path).items()}
    key = f"{DOWN}.{name}"
    changed = weights | ({key: change(weights[key])} if change else {})
    if change is None:
        del changed[key]
    save_file(changed, path, {"format": "pt"})
    with pytest.raises(Corrupt):
        load_folder(tmp_path / "form", dtype="int8")
