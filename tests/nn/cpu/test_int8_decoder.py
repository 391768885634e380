"""A layer as one loop gives what the layer's parts give, to the bit, and only where nothing else is asked of it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from llmos.abi.cpu import compiler
from llmos.nn.adapters import adapter, changes
from llmos.nn.attention import NAME
from llmos.nn.cpu import cpu_kernels, int8_decoder
from llmos.nn.cpu.fused import fuse
from llmos.nn.cpu.int8_linear import quantize
from llmos.nn.generation.block_pool import origin
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache
from llmos.nn.packing import next_logits, pack
from llmos.testing.tiny import DECODER

pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("each_path"),
    pytest.mark.skipif(compiler() is None, reason="there is no C compiler here, so nothing is compiled"),
]

DTYPES = (None, torch.float16)
KINDS = ("llama", "qwen2", "qwen3", "mistral")


def made(kind, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **DECODER | settings)).eval()
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:  # norms' weights of one and biases of zero would hide that they are left out
                parameter.data += torch.randn(parameter.shape) * (0.1 if "norm" in name else 0.02)
    model.set_attn_implementation(NAME)
    quantize(model)
    return model


def whole(model):
    return [layer for layer in model.modules() if hasattr(layer, "is_whole")]


@pytest.fixture(scope="module", params=KINDS)
def both(request, each_path):
    """The same weights, their parts replaced one by one, and as whole layers."""
    window = {"sliding_window": 20} if request.param == "mistral" else {}
    parts, layers = made(request.param, **window), made(request.param, **window)
    fuse(parts)
    for layer in whole(parts):
        layer.__class__ = type(layer).__bases__[0]
    fuse(layers)
    assert len(whole(layers)) == layers.config.num_hidden_layers
    assert not whole(parts)
    return parts, layers


def answered(model, prompts, steps, *, dtype=None):
    """The logits of each step: the prompts, then a token for each in every further one."""
    pool = KVCache(64 * BLOCK, 1, dtype=dtype if cpu_kernels.kernels().has_halves else None)  # as nn/load.py has it
    kvs = [SequenceCache(pool, origin("tiny:1", str(i)), ids) for i, ids in enumerate(prompts)]
    next_ids, found = list(prompts), []
    for _ in range(steps):
        for kv, ids in zip(kvs, next_ids, strict=True):
            assert kv.grow(len(ids))
        with torch.inference_mode():
            found.append(next_logits(model, pack(next_ids, starts=[kv.length for kv in kvs]), kvs))
        for kv, ids in zip(kvs, next_ids, strict=True):
            kv.advance(ids)
        next_ids = [[int(one) % 90 + 3] for one in found[-1].argmax(-1)]
    return torch.stack(found)


@given(st.lists(st.integers(1, 3 * BLOCK), min_size=1, max_size=5), st.integers(2, 6), st.sampled_from(DTYPES))
@settings(max_examples=8, deadline=None)
def test_whole_layers_give_the_bits_of_their_parts(both, lengths, steps, dtype):
    prompts = [[(7 * i + j) % 90 + 3 for j in range(length)] for i, length in enumerate(lengths)]
    wanted, got = (answered(model, prompts, steps, dtype=dtype) for model in both)
    assert torch.equal(wanted, got)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_answer_has_the_same_bits_alone_and_beside_others(both, dtype):
    _, layers = both
    prompts = [[5, 6, 7], list(range(3, 60)), [9] * 33]
    together = answered(layers, prompts, 5, dtype=dtype)
    for i, prompt in enumerate(prompts):
        assert torch.equal(answered(layers, [prompt], 5, dtype=dtype)[:, 0], together[:, i])


def test_a_step_of_lone_tokens_is_a_loop_a_layer_and_any_other_is_not():
    model = made("llama")
    fuse(model)
    answered(model, [[5, 6, 7], [8]], 1)
    assert not [layer for layer in whole(model) if "told" in vars(layer)]
    answered(model, [[5, 6, 7], [8]], 2)
    assert all("told" in vars(layer) for layer in whole(model))


def test_a_pass_with_an_adapter_goes_through_the_parts():
    model = made("llama")
    fuse(model)
    layer = model.model.layers[0].mlp.down_proj
    wide, high = layer.in_features, layer.out_features
    generator = torch.Generator().manual_seed(1)
    change = changes.LowRank(
        layer, torch.randn(wide, 2, generator=generator), torch.randn(2, high, generator=generator), 1.0
    )
    plain = answered(model, [[5, 6, 7]], 3)
    with adapter.Adapter((change,)).on():
        changed = answered(model, [[5, 6, 7]], 3)
    assert not torch.allclose(plain, changed)
    assert torch.equal(answered(model, [[5, 6, 7]], 3), plain)


@pytest.mark.parametrize("kind", ["gemma3_text", "granite", "olmo2", "starcoder2", "qwen3_next"])
def test_layers_of_another_kind_are_left_alone(kind):
    model = made(kind, **({"residual_multiplier": 0.5} if kind == "granite" else {}))
    fuse(model)
    assert not whole(model)


def test_layers_in_float_are_left_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **DECODER)).eval()
    model.set_attn_implementation(NAME)
    fuse(model)
    assert not whole(model)


def test_what_does_not_fit_is_left_to_torch_and_not_computed_beside_its_memory():
    model = made("llama")
    fuse(model)
    told = int8_decoder.kernel_args(model.model.layers[0]).decoder
    held = torch.zeros(4, told.kv_heads, BLOCK, told.d), torch.zeros(4, told.kv_heads, BLOCK, told.d)
    reach = (torch.zeros(1, dtype=torch.int32), *(torch.zeros(1, dtype=torch.int64) for _ in range(4)))
    turns = torch.zeros(1, told.d), torch.zeros(1, told.d)
    loops = cpu_kernels.kernels()
    right = torch.zeros(1, told.out.outs)
    assert loops.decode(told, right, turns, held, reach).shape == right.shape
    for x, some, where in (
        (torch.zeros(2, told.out.outs), turns, held),
        (torch.zeros(1, told.out.outs + 1), turns, held),
        (right.double(), turns, held),
        (right, (turns[0], torch.zeros(1, told.d + 2)), held),
        (right, turns, (held[0], held[1][:, :, :, :-1].contiguous())),
        (right, turns, (held[0][:, :1], held[1][:, :1])),
    ):
        assert loops.decode(told, x, some, where, reach) is None
