"""Layers computed by one loop give what the architecture's own code gives, or are left alone."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from transformers import AutoConfig, AutoModelForCausalLM

from llmos.abi.cpu import compiler
from llmos.abi.error import BadInput
from llmos.nn.attention import NAME
from llmos.nn.cpu.fused import fuse
from llmos.nn.cpu.int8_linear import quantize
from llmos.nn.generation.block_pool import origin
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache
from llmos.nn.packing import next_logits, pack
from llmos.testing.errors import fails_with
from llmos.testing.tiny import DECODER, plain

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(compiler() is None, reason="there is no C compiler here, so nothing is compiled"),
]

IDS = torch.arange(5, 45).unsqueeze(0)


def packed_logits(model):
    pool = KVCache(8 * BLOCK, 1)
    parts = [list(range(5, 40)), [9], list(range(40, 80))]
    kvs = [SequenceCache(pool, origin("tiny:1", str(i)), ids) for i, ids in enumerate(parts)]
    for kv, ids in zip(kvs, parts, strict=True):
        assert kv.grow(len(ids))
    with torch.inference_mode():
        return next_logits(model, pack(parts), kvs)


# Of three layers: norms, and norms of queries and keys, attention, gates of the kind that is known; and the last norm.
@pytest.mark.parametrize(("architecture", "replaced"), [("llama", 13), ("qwen3", 19), ("gemma3_text", 22)])
def test_a_decoder_gives_the_same_logits(architecture, replaced):
    model = copy.deepcopy(plain(architecture))
    model.set_attn_implementation(NAME)
    wanted = packed_logits(model)
    assert fuse(model) == replaced
    torch.testing.assert_close(packed_logits(model), wanted, atol=1e-5, rtol=1e-5)


def small(kind, **settings):
    """Another architecture than those in testing/tiny, in float32 and packed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **DECODER | settings)
        model = AutoModelForCausalLM.from_config(config).eval()
    model.set_attn_implementation(NAME)
    return model


@pytest.mark.parametrize("kind", ["mistral", "starcoder2", "mixtral"])
def test_a_window_that_only_the_config_knows_is_kept(kind):
    model = small(kind, sliding_window=8)
    wanted = packed_logits(model)
    assert fuse(model) >= 3, "its attentions at least"
    torch.testing.assert_close(packed_logits(model), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "settings", [{"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}]
)
def test_positions_that_turn_a_part_of_a_head_are_left_to_the_layer(settings):
    model = small("glm4_moe", **settings)
    wanted = packed_logits(model)
    fuse(model)
    torch.testing.assert_close(packed_logits(model), wanted, atol=1e-4, rtol=1e-4)


def test_a_layer_that_asks_for_what_attention_does_not_do_loads_as_before():
    model = small("gemma2", attn_logit_softcapping=50.0)
    fuse(model)
    with fails_with(BadInput, needs=["softcap"]):
        packed_logits(model)


class GatedRMSNorm(torch.nn.Module):
    """A norm that may be asked with a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.ones(8)), 1e-6

    def forward(self, x, gate=None):
        x = x if gate is None else x * torch.nn.functional.silu(gate)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def test_a_norm_with_a_gate_is_the_layer_s_own():
    layer, x = GatedRMSNorm(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    assert fuse(layer) == 1
    with torch.inference_mode():
        assert torch.equal(layer(x, x), GatedRMSNorm()(x, x))
        assert torch.equal(layer(x, gate=x), GatedRMSNorm()(x, x))


@pytest.mark.parametrize("kind", ["qwen3_next", "llama"])
def test_a_model_in_int8_is_fused_or_left_alone(kind):
    """Of the first, a projection is wider than what its attention gives on: to be tried is not to be right."""
    model = small(kind)
    quantize(model)
    before = [type(layer) for layer in model.modules()]
    replaced = fuse(model)
    assert replaced == sum(one is not type(layer) for one, layer in zip(before, model.modules(), strict=True))
    assert kind != "llama" or replaced == 13 + model.config.num_hidden_layers  # parts, and whole layers of them


def test_an_attention_that_is_not_ours_is_left_alone():
    model = copy.deepcopy(plain("llama"))
    fuse(model)
    assert type(model.model.layers[0].self_attn) is type(plain("llama").model.layers[0].self_attn)


def test_gradients_flow_as_before():
    ours, theirs = copy.deepcopy(plain("llama")), copy.deepcopy(plain("llama"))
    assert fuse(ours)
    for model in (ours, theirs):
        model.requires_grad_(True)
        model(input_ids=IDS).logits.square().mean().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


class BentRMSNorm(torch.nn.Module):
    """Looks like the others, and is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.ones(8)), 1e-6

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.square() * 1.01


class Sized(torch.nn.Module):
    """A feed-forward layer with a gate of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (torch.nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return self.down_proj(self.gate_proj(x).relu() * self.up_proj(x))


def bare_norm():
    return torch.nn.LayerNorm(8, bias=False)


def square_norm():
    return torch.nn.LayerNorm((8, 8))


@pytest.mark.parametrize("layer", [BentRMSNorm, Sized, bare_norm, square_norm])
def test_a_layer_that_computes_something_else_is_left_alone(layer):
    made = layer()
    before = type(made)
    assert fuse(made) == 0
    assert type(made) is before


def test_layer_norm_is_torch_s():
    theirs = torch.nn.LayerNorm(40)
    generator = torch.Generator().manual_seed(2)
    for parameter in theirs.parameters():
        parameter.data = torch.randn(40, generator=generator)
    ours, x = copy.deepcopy(theirs), torch.randn(3, 5, 40, generator=generator) * 10 + 3
    assert fuse(ours) == 1
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x))


def test_what_is_no_number_stays_visible():
    model = copy.deepcopy(plain("llama"))
    fuse(model)
    with torch.inference_mode():
        model.model.embed_tokens.weight[7] = torch.nan
        assert model(input_ids=IDS).logits.isnan().any()
