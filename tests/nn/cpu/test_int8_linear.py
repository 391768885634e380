"""Linear layers in int8: what they compute is known to the last rounding, and depends on nothing else in the batch."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from llmos.abi.error import BadInput, Corrupt
from llmos.nn import resident
from llmos.nn.adapters.adapter import Segment, applying_segments
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.cpu import int8_linear
from llmos.nn.cpu.cpu_kernels import BLOCK, kernels
from llmos.nn.cpu.int8_linear import Int8
from llmos.nn.load import load_folder
from llmos.nn.packing import forward, pack
from llmos.testing import adapters, tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch
compiled = pytest.mark.skipif(kernels() is None, reason="there is no C compiler here, and floats depend on the batch")
ARCHITECTURES = ("bert", "roberta", "distilbert", "modernbert", "llama", "qwen3", "gemma3_text")
ENDS = {"bos_token_id": tiny.CLS, "eos_token_id": tiny.SEP}
ROW = pack([[2, 30, 40, 3], [2, 50, 3]])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(inputs, outputs, *, bias=True, seed=0):
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(normal(outputs, inputs, seed=seed) * 0.1)
        if bias:
            layer.bias.copy_(normal(outputs, seed=seed + 1))
    return layer


def int8(layer):
    return Int8(int8_linear.quantize_layer(layer), layer.bias)


def blocks(x, scales):
    """The numbers with each block rounded to multiples of its scale, in float64."""
    cut = [x[..., start : start + BLOCK].double() for start in range(0, x.shape[-1], BLOCK)]
    return torch.cat([rounded(one, scales(one)) for one in cut], -1)


def rounded(block, scale):
    scale = scale.clamp_min(1e-12)
    return (block / scale).round() * scale


def of_inputs(block):
    return block.abs().amax(-1, keepdim=True) / 127


def of_weights(block):
    """So that numbers 0, 1, 4 and 5 of every eight, and the other four, are within 128 to either side together."""
    tight, safe = (torch.maximum(of_inputs(block), most(block) / reach).clamp_min(1e-12) for reach in (128, 126))
    return torch.where(most((block / tight).round()) > 128, safe, tight)


def most(block):
    sums = []
    for start in range(0, block.shape[-1], 8):
        for four in ((0, 1, 4, 5), (2, 3, 6, 7)):
            some = block[..., [start + i for i in four if start + i < block.shape[-1]]]
            sums += [(side * some).clamp_min(0).sum(-1, keepdim=True) for side in (1, -1)]
    return torch.stack(sums).amax(0)


def fake(layer, x):
    """The same by its definition, in float64: rounded weights times rounded inputs."""
    bias = 0 if layer.bias is None else layer.bias.double()
    return blocks(x, of_inputs) @ blocks(int8_linear.matrix(layer), of_weights).T + bias


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("rows", "inputs"), [(1, 40), (2, 64), (31, 200), (600, 65)])
def test_a_layer_computes_what_its_definition_says(rows, inputs, has_bias, is_compiled):
    layer, x = linear(inputs, 56, bias=has_bias), normal(1, rows, inputs, seed=rows)
    made = Int8(int8_linear.quantize_layer(layer), layer.bias, is_compiled=is_compiled)
    with torch.inference_mode():
        given, wanted = made(x), fake(layer, x)
    half = (x.abs().amax(-1, keepdim=True) / 127).double() * 1.01  # a number on the edge may be rounded either way
    limit = half * int8_linear.matrix(layer).abs().amax().double() * 2
    assert given.shape == (1, rows, 56)
    assert ((given - wanted).abs() <= limit).all()
    assert ((given - wanted).abs() < 1e-4).double().mean() > 0.98


def test_a_large_number_spoils_its_block_alone():
    layer, x = linear(4 * BLOCK, 32), normal(1, 4 * BLOCK)
    quiet = x.clone()
    quiet[:, :BLOCK] = 0
    x[:, 0] = 1e5
    with torch.inference_mode():
        made = int8(layer)
        lost = made(x) - made(torch.cat([x[:, :BLOCK], torch.zeros(1, 3 * BLOCK)], 1))  # what the other blocks give
        torch.testing.assert_close(lost, made(quiet) - layer.bias, atol=0.1, rtol=0)


@compiled
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 70), at=st.integers(0, 69), loud=st.floats(0.01, 1e6))
def test_a_row_is_the_same_to_the_bit_alone_and_beside_any_others(seed, rows, at, loud):
    layer, x = int8(linear(133, 48)), normal(rows, 133, seed=seed)
    at %= rows
    x[(at + 1) % rows] *= loud
    with torch.inference_mode():
        assert torch.equal(layer(x[at : at + 1])[0], layer(x)[at])


def test_the_largest_numbers_do_not_saturate():
    layer = nn.Linear(4096, 16, bias=False)
    nn.init.constant_(layer.weight, 0.5)
    with torch.inference_mode():
        torch.testing.assert_close(int8(layer)(torch.full((3, 4096), -2.0)), torch.full((3, 16), -4096.0))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 150), st.sampled_from([0.1, 1.0, 4.0]))
def test_no_weights_overflow_sixteen_bits_whatever_the_inputs(seed, inputs, power):
    weights = normal(16, inputs, seed=seed)
    layer = nn.Linear(inputs, 16, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weights.sign() * weights.abs() ** power)
        made = int8(layer)
        ends = torch.cat([layer.weight.sign(), -layer.weight.sign()])  # the inputs that reach furthest
    with torch.inference_mode():
        torch.testing.assert_close(made(ends), ends @ made.weight.T, atol=1e-3, rtol=1e-5)


@compiled
@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(1, 150), st.integers(0, 10_000))
def test_the_loop_finds_how_far_sums_reach_as_torch_does(outs, ins, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-127, 128, (outs, ins), dtype=torch.int8, generator=generator)
    assert kernels().reach(values) == int8_linear.furthest_reach(values)


def test_zeros_and_what_is_not_a_number_come_out_as_they_went_in():
    layer, x = int8(linear(32, 16)), normal(4, 32)
    x[0], x[1, 3], x[2, 5] = 0.0, float("nan"), float("inf")
    with torch.inference_mode():
        out = layer(x)
    torch.testing.assert_close(out[0], layer.bias.detach())
    assert not out[1].isfinite().any()
    assert not out[2].isfinite().any()
    assert out[3].isfinite().all()


@compiled
def test_the_weights_can_be_read_again_and_take_a_quarter_of_the_memory():
    layer = linear(64, 32)
    made = int8(layer)
    assert (made.weight - layer.weight).abs().max() <= layer.weight.abs().max() / 32 / 2
    assert made.size_bytes == 64 * 32 + 4 * 32
    assert [name for name, _ in made.named_parameters()] == ["bias"]


def test_a_layer_that_keeps_its_weights_the_other_way_round_is_the_same_product():
    layer = Conv1D(24, 32)  # 32 in, 24 out
    with torch.no_grad():
        layer.weight.copy_(normal(32, 24))
        layer.bias.copy_(normal(24))
    model = nn.Sequential(copy.deepcopy(layer))
    int8_linear.quantize(model)
    x = normal(5, 32, seed=3)
    with torch.inference_mode():
        torch.testing.assert_close(model(x).double(), fake(layer, x), atol=0.2, rtol=0)


def test_few_outputs_and_layers_to_keep_stay_float():
    model = nn.ModuleDict({"router": linear(32, 8), "kept": linear(32, 32), "made": linear(32, 32)})
    int8_linear.quantize(model, keep=["kept"])
    assert {name: type(layer) for name, layer in model.items()} == {
        "router": nn.Linear,
        "kept": nn.Linear,
        "made": Int8,
    }


def test_weights_that_are_not_finite_are_refused():
    layer = linear(32, 16)
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    with fails_with(BadInput, reason="not_finite"):
        int8_linear.quantize_layer(layer)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def both(request, tmp_path_factory):
    """An architecture's folder, and its form in int8."""
    root = tmp_path_factory.mktemp("int8")
    source = tiny.write(root / request.param, request.param)
    resident.make(source, "int8", root / "form")
    return source, root / "form"


def hidden(loaded, row=ROW):
    with torch.inference_mode():
        return forward(loaded.backbone, row)


def faked(folder):
    """The model in float with weights rounded, and inputs rounded on the way into each layer."""
    loaded = load_folder(folder)
    for layer in list((loaded.causal or loaded.backbone).modules()):
        if isinstance(layer, nn.Linear):
            layer.forward = lambda x, layer=layer: fake(layer, x).float()
    return loaded


def test_a_model_in_int8_computes_what_its_definition_says(both):
    source, form = both
    given, wanted, exact = hidden(load_folder(form, dtype="int8")), hidden(faked(source)), hidden(load_folder(source))
    assert (given - wanted).norm() < 0.3 * (exact - wanted).norm()  # what is left: numbers rounded on the edge
    assert torch.cosine_similarity(given, exact, dim=-1).min() > 0.97


def test_the_form_holds_integers_and_what_is_no_product_as_it_was(both):
    source, form = both
    weights, loaded = load_file(form / "model.safetensors"), load_folder(form, dtype="int8")
    model = loaded.causal or loaded.backbone
    layers = {path for path, layer in model.named_modules() if isinstance(layer, Int8)}
    assert not [layer for layer in model.modules() if type(layer) is nn.Linear]
    assert {name.removesuffix(".weight") for name, x in weights.items() if x.dtype == torch.int8} == layers
    floats = load_file(source / "model.safetensors")
    assert all(torch.equal(x, floats[name]) for name, x in weights.items() if name in floats and x.dtype != torch.int8)
    if kernels() is not None:  # where nothing was compiled they are held as floats
        assert loaded.weights_bytes == sum(x.nbytes for x in weights.values())


def test_a_folder_in_float_becomes_the_same_model(both):
    source, form = both
    assert torch.equal(hidden(load_folder(source, dtype="int8")), hidden(load_folder(form, dtype="int8")))


def test_a_tied_layer_of_next_tokens_is_quantized_and_the_embedding_stays_float(tmp_path):
    loaded = load_folder(tiny.write(tmp_path / "llama", "llama"), dtype="int8")
    assert loaded.causal is not None
    assert isinstance(loaded.causal.lm_head, Int8)
    assert torch.equal(loaded.causal.model.embed_tokens.weight, tiny.plain("llama").model.embed_tokens.weight)


def test_layers_of_gpt2_s_kind_become_int8_too(tmp_path):
    tiny.write(tmp_path / "gpt2", "llama")
    config = AutoConfig.for_model(
        "gpt2", vocab_size=260, n_embd=32, n_layer=2, n_head=4, n_positions=64, n_inner=48, **ENDS
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "gpt2")
    resident.make(tmp_path / "gpt2", "int8", tmp_path / "form")
    loaded = load_folder(tmp_path / "form", dtype="int8")
    assert sum(isinstance(layer, Int8) for layer in loaded.causal.modules()) == 2 * 4 + 1
    assert torch.cosine_similarity(hidden(loaded), hidden(load_folder(tmp_path / "gpt2")), dim=-1).min() > 0.97


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_an_adapter_is_added_in_float_on_top_and_its_neighbour_sees_nothing_of_it(architecture, tmp_path):
    base = load_folder(tiny.write(tmp_path / "base", architecture), dtype="int8")
    folder = adapters.write(tmp_path / "adapter", base.backbone, rank=3)
    adapter = load_adapter(folder, base.backbone)
    on_float = load_folder(tmp_path / "base")
    long = pack([list(range(4, 100)), list(range(100, 200))])
    with applying_segments([Segment(adapter, 0, 96), Segment(None, 96, 196)]):
        together = hidden(base, long)
    assert torch.equal(together[96:], hidden(base, pack([list(range(100, 200))])))
    with load_adapter(folder, on_float.backbone).on():
        exact = hidden(on_float, pack([list(range(4, 100))]))
    assert torch.cosine_similarity(together[:96], exact, dim=-1).min() > 0.97
    assert not any(change.is_whole(10_000) for change in adapter.layers)


def test_a_sequence_is_the_same_alone_and_in_a_row(both):
    loaded = load_folder(both[1], dtype="int8")
    alone = torch.cat([hidden(loaded, pack([ids.tolist()])) for ids in ROW.ids[0].split(list(ROW.lengths))])
    torch.testing.assert_close(hidden(loaded), alone, atol=2e-2, rtol=2e-2)  # attention's sums are floats


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("encoder.layer.0.output.dense.weight", lambda x: x[:, :-1].contiguous()),
        ("encoder.layer.0.output.dense.weight", lambda x: x.float()),
        ("encoder.layer.0.output.dense.weight", lambda x: torch.full_like(x, 64)),
        ("encoder.layer.0.output.dense.weight_scale", lambda x: x[:-1].clone()),
        ("encoder.layer.0.output.dense.weight_scale", lambda x: x * 0),
        ("encoder.layer.0.output.dense.weight_scale", lambda x: x * float("nan")),
        ("encoder.layer.0.output.dense.weight", None),
        ("encoder.layer.0.output.dense.bias", None),
    ],
)
def test_a_form_that_is_not_what_was_made_is_corrupt(tmp_path, name, change):
    resident.make(tiny.write(tmp_path / "source", "bert"), "int8", tmp_path / "form")
    path = tmp_path / "form" / "model.safetensors"
    weights = {key: x.clone() for key, x in load_file(path).items()}
    changed = weights | ({name: change(weights[name])} if change else {})
    if change is None:
        del changed[name]
    save_file(changed, path, {"format": "pt"})
    with pytest.raises(Corrupt):
        load_folder(tmp_path / "form", dtype="int8")


def test_a_form_in_int8_is_not_taken_for_one_in_float(tmp_path):
    resident.make(tiny.write(tmp_path / "source", "bert"), "int8", tmp_path / "form")
    with fails_with(BadInput, dtype="int8"):
        load_folder(tmp_path / "form")


def test_a_gpu_is_refused(tmp_path):
    with fails_with(BadInput, dtype="int8", device="cuda:0"):
        load_folder(tiny.write(tmp_path / "source", "bert"), dtype="int8", device="cuda0")
