"""Every compiled loop over every number format, layout and shape: torch's own numbers, or it steps aside for torch."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from llmos.abi.cpu import compiler
from llmos.nn.attention import NAME
from llmos.nn.cpu import cpu_kernels
from llmos.nn.cpu.fused import fuse
from llmos.nn.cpu.int8_linear import Int8, quantize, quantize_layer
from llmos.nn.generation.block_pool import origin
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache
from llmos.nn.generation.paged_attention import Plan
from llmos.nn.packing import forward, next_logits, pack
from llmos.testing.tiny import DECODERS, plain

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(compiler() is None, reason="there is no C compiler here, so nothing is compiled"),
]

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CLOSE = {torch.float32: 2e-5, torch.float64: 2e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
LAYOUTS = ("whole", "turned", "sliced", "spread")

dtypes = st.sampled_from(DTYPES)
layouts = st.sampled_from(LAYOUTS)
seeds = st.integers(0, 2**31)


def drawn(seed, *shape, dtype=torch.float32, layout="whole"):
    """Random numbers of this shape, which lie in memory in one order or another."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator).to(dtype)
    if layout == "turned" and x.dim() > 1:
        return x.mT.contiguous().mT
    if layout == "sliced":
        wide = torch.zeros(*shape[:-1], 2 * shape[-1] + 1, dtype=dtype)
        wide[..., 1::2] = x
        return wide[..., 1::2]
    if layout == "spread" and x.dim() > 1:
        return x[:1].expand(shape)
    return x


def norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x, cosine, sine):
    one, other = x.chunk(2, -1)
    return x * cosine.unsqueeze(-2) + torch.cat((-other, one), -1) * sine.unsqueeze(-2)


def centre(x, weight, bias, eps):
    return functional.layer_norm(x, weight.shape, weight, bias, eps)


def gate(gate, up):
    return functional.silu(gate) * up


LOOPS = {
    "norm": (norm, lambda n, t, d: ((n, t, d), (d,)), (1e-6,)),
    "centre": (centre, lambda n, t, d: ((n, t, d), (d,), (d,)), (1e-6,)),
    "gelu": (functional.gelu, lambda n, t, d: ((n, t, d),), ()),
    "gate": (gate, lambda n, t, d: ((n, t, d), (n, t, d)), ()),
    "rotate": (rotate, lambda n, t, d: ((n, t, 3, d), (n, t, d), (n, t, d)), ()),
}


@pytest.mark.parametrize("name", LOOPS)
@given(st.data(), st.integers(0, 3), st.integers(1, 4), st.integers(1, 19), seeds)
@settings(max_examples=25)
def test_a_loop_gives_torch_s_numbers_or_steps_aside_and_changes_nothing(name, data, n, t, d, seed):
    """One operand is now and then of another dtype than the others, or one number short."""
    theirs, shapes_of, more = LOOPS[name]
    shapes = list(shapes_of(n, t, d))
    dtype, odd = data.draw(dtypes), data.draw(st.integers(-4, len(shapes) - 1))
    is_short = odd >= 0 and data.draw(st.booleans())
    operands = []
    for i, shape in enumerate(shapes):
        of = data.draw(dtypes) if i == odd and not is_short else dtype
        size = (*shape[:-1], shape[-1] + 1) if i == odd and is_short else shape
        operands.append(drawn(seed + i, *size, dtype=of, layout=data.draw(layouts)))
    kept = [x.clone() for x in operands]
    got = getattr(cpu_kernels.kernels(), name)(*operands, *more)
    is_alike = not is_short or len(shapes) == 1
    is_ours = is_alike and n > 0 and all(x.dtype == torch.float32 for x in operands)
    is_ours = is_ours and not (name == "rotate" and operands[0].shape[-1] % 2)
    assert (got is not None) == is_ours
    if got is None:
        assert all(map(torch.equal, operands, kept))
    else:
        torch.testing.assert_close(got, theirs(*kept, *more), atol=2e-5, rtol=2e-5)


@given(st.data(), st.integers(1, 70), st.integers(1, 80), st.integers(1, 9), st.booleans(), seeds)
@settings(max_examples=25)
def test_a_layer_in_int8_takes_inputs_of_any_format(data, outs, ins, rows, has_bias, seed):
    layer = torch.nn.Linear(ins, outs, bias=has_bias)
    with torch.no_grad():
        for i, parameter in enumerate(layer.parameters()):
            parameter.copy_(drawn(seed + i, *parameter.shape))
    weights, dtype = quantize_layer(layer), data.draw(dtypes)
    x = drawn(seed, rows, ins, dtype=dtype, layout=data.draw(layouts))
    ours, plain = (Int8(weights, layer.bias, is_compiled=compiles) for compiles in (True, False))
    with torch.inference_mode():
        got, wanted = ours(x), plain(x)
    assert (got.dtype, got.shape) == (dtype, (rows, outs))
    slack = 0.05 * wanted.abs().max() + 0.05  # an input between two whole numbers may be rounded either way
    assert bool(((got - wanted).abs() <= slack).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_s_bias_stays_where_the_loop_reads_it_when_the_model_is_changed(dtype):
    layer = torch.nn.Linear(64, 32)
    ours = Int8(quantize_layer(layer), layer.bias)
    x = drawn(1, 3, 64)
    with torch.inference_mode():
        before = ours(x)
        ours.to(dtype)
        torch.full((32,), torch.nan)  # what would come to lie where the bias lay
        assert torch.equal(ours(x), before)
        torch.testing.assert_close(ours(x.to(dtype)), before.to(dtype), atol=0.1, rtol=0.1)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from((1, 1, 4))), min_size=1, max_size=4),
    st.sampled_from(((1, 1), (4, 2), (9, 3))),
    st.sampled_from((1, 7, 16, 20)),
    st.sampled_from((None, 5)),
    dtypes,
    st.sampled_from((None, *DTYPES)),
    layouts,
)
@settings(max_examples=25)
def test_attention_over_blocks_takes_any_format_of_what_is_new_and_of_what_is_kept(
    sequences, heads, d, size, dtype, kept_in, layout
):
    (heads, kv_heads), new = heads, [count for _, count in sequences]
    qkv = [drawn(i, n, sum(new), d, dtype=dtype, layout=layout) for i, n in enumerate((heads, kv_heads, kv_heads))]
    outs = []
    for is_compiled in (True, False):
        pool = KVCache(40 * BLOCK, 1, dtype=kept_in)
        kvs = [SequenceCache(pool, origin("tiny:1", str(i)), [7]) for i in range(len(sequences))]
        for part, numbers in enumerate(pool.layer(0, *qkv[1:])):
            numbers.copy_(drawn(part, *numbers.shape))
        for kv, (count, more) in zip(kvs, sequences, strict=True):
            assert kv.grow(count)
            kv.advance([3] * count)
            assert kv.grow(more)
        with torch.inference_mode():
            outs.append(Plan(new, kvs, CPU, is_compiled=is_compiled).attend(0, *qkv, None, size))
        assert outs[-1].dtype == dtype
    close = CLOSE[dtype]
    torch.testing.assert_close(*outs, atol=close, rtol=close)


def states(fused, architecture, parts):
    """What a base gives: hidden states of whole texts, and, where it generates, logits of texts that go on."""
    model = fused if architecture not in DECODERS else fused.base_model
    found = [forward(model, pack(parts))]
    if architecture in DECODERS and not torch.is_grad_enabled():  # what is kept for a text has no gradients
        pool = KVCache(64 * BLOCK, 1)
        kvs = [SequenceCache(pool, origin("tiny:1", str(i)), ids) for i, ids in enumerate(parts)]
        for some in (parts, [[9]] * len(parts), [[11]] * len(parts)):
            assert all(kv.grow(len(ids)) for kv, ids in zip(kvs, some, strict=True))
            starts = [kv.length for kv in kvs]
            found.append(next_logits(fused, pack(some, starts=starts), kvs))
            for kv, ids in zip(kvs, some, strict=True):
                kv.advance(ids)
    return found


# What is asked of a model, and whether its layers may compute in another order than they would: then the loops did.
ASKED = {
    "in inference mode": (torch.inference_mode, nullcontext),
    "where gradients are wanted": (nullcontext, nullcontext),
    "without gradients": (torch.no_grad, nullcontext),
    "under autocast": (torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)),
}
CASES = [
    pytest.param(dtype, asked, id=f"{asked}, {str(dtype).removeprefix('torch.')}")
    for asked in ASKED
    for dtype in (DTYPES if asked == "in inference mode" else DTYPES[:2])
]


@pytest.mark.parametrize(("dtype", "asked"), CASES)
@pytest.mark.parametrize("architecture", ["bert", "llama", "gemma3_text"])
def test_a_model_with_loops_gives_its_own_numbers_in_every_format(architecture, dtype, asked):
    """Models are loaded in one dtype; these are changed after their layers were replaced, which is harder."""
    theirs = copy.deepcopy(plain(architecture))
    theirs.set_attn_implementation(NAME)
    ours = copy.deepcopy(theirs)
    assert fuse(ours)
    parts = [list(range(5, 40)), [9], list(range(40, 80))]
    outer, inner = ASKED[asked]
    with outer(), inner():
        wanted, got = (states(model.to(dtype), architecture, parts) for model in (theirs, ours))
    is_loop = dtype == torch.float32 and asked == "in inference mode"
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == other.dtype
        if is_loop:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        else:
            assert torch.equal(one, other), "torch computed both"


@pytest.mark.parametrize(("dtype", "asked"), CASES)
@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_a_model_in_int8_keeps_to_its_answers_in_every_format(architecture, dtype, asked):
    """Its products stay in integers; what is between them is computed in that dtype."""
    theirs = copy.deepcopy(plain(architecture))
    theirs.set_attn_implementation(NAME)
    ours = copy.deepcopy(theirs)
    for model in (theirs, ours):
        quantize(model)
    assert fuse(ours)
    parts = [list(range(5, 40)), [9], list(range(40, 80))]
    outer, inner = ASKED[asked]
    with outer():
        wanted = states(theirs, architecture, parts)
    with outer(), inner():
        got = states(ours.to(dtype), architecture, parts)
    for one, other in zip(got, wanted, strict=True):
        likeness = functional.cosine_similarity(one.float(), other.float(), dim=-1)
        assert likeness.min() > (0.97 if dtype == torch.bfloat16 or asked == "under autocast" else 0.995)
