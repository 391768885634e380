"""The loops in C say what torch says."""

from __future__ import annotations

import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from llmos.abi.cpu import PATHS, CpuPath, choose_path, compiler, features
from llmos.nn.cpu import cpu_kernels, cpu_path
from llmos.nn.generation.block_pool import origin
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache
from llmos.nn.generation.paged_attention import Plan, window

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(compiler() is None, reason="there is no C compiler here, so nothing is compiled"),
]

CPU = torch.device("cpu")
HERE = cpu_path.path() or CpuPath("none")


@pytest.fixture(scope="module")
def loops(each_path):
    found = cpu_kernels.kernels()
    assert found.name == each_path
    return found


def test_every_path_that_this_processor_has_is_compiled_and_named_for_it(path_here, tmp_path):
    """Its library holds no instruction that the path does not allow, so that it may lie on a disk that others share."""
    source = Path(shutil.copy(cpu_kernels.SOURCE, tmp_path))
    path = choose_path(path_here, features())
    assert cpu_kernels.load_library(path, source).name == path_here
    (made,) = tmp_path.glob("*.so")
    assert made.name.startswith(f"kernels-{path_here}-")


@pytest.mark.parametrize("path", [path for path in PATHS if not path.loops], ids=lambda path: path.name)
def test_each_path_compiles_without_a_warning_also_where_the_processor_lacks_it(path, tmp_path):
    """Into a library, for a machine that has it: its own instructions are in it, and none of a wider path."""
    command, made = compiler(), tmp_path / "kernels.so"
    if subprocess.run([command, *path.flags, "-fsyntax-only", "-xc", "/dev/null"], check=False).returncode:
        pytest.skip(f"{command} does not know {path.flags}")
    asked = [command, *path.flags, *cpu_kernels.FLAGS, "-Wall", "-Wextra", "-Werror", str(cpu_kernels.SOURCE)]
    done = subprocess.run([*asked, "-o", str(made), "-lm"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if shutil.which("objdump"):  # of binutils, as the linker is
        code = subprocess.run(["objdump", "-d", str(made)], capture_output=True, text=True, check=True).stdout
        assert ("%ymm" in code) == ("avx2" in path.needs)
        assert ("vpdpbusd" in code) == any("vnni" in need for need in path.needs)
        assert ("%zmm" in code or "%k1" in code) <= ("avx512f" in path.needs)


def quantized(outs, ins, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-32, 33, (outs, ins), dtype=torch.int8, generator=generator)
    scale = torch.rand(outs, -(-ins // cpu_kernels.BLOCK), generator=generator) + 0.1
    return weight, scale, torch.randn(outs, generator=generator)


def rows_of(rows, ins, seed=0):
    return torch.randn(rows, ins, generator=torch.Generator().manual_seed(seed)) * (1 + torch.arange(rows).unsqueeze(1))


@given(st.integers(1, 300), st.integers(1, 200), st.integers(1, 70), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_product_is_the_sum_of_whole_numbers_that_it_stands_for(loops, rows, ins, outs, has_bias):
    weight, scale, bias = quantized(outs, ins, seed=ins)
    x = rows_of(rows, ins)
    got = loops.product(weight, scale, bias if has_bias else None)(x)
    wanted = torch.zeros(rows, outs, dtype=torch.double) + (bias.double() if has_bias else 0)
    slack = torch.zeros(rows, outs, dtype=torch.double)
    for i, start in enumerate(range(0, ins, cpu_kernels.BLOCK)):
        some, of = x[:, start : start + cpu_kernels.BLOCK], weight[:, start : start + cpu_kernels.BLOCK].double()
        worth = some.abs().amax(1, keepdim=True) / 127
        near = some / worth
        near = torch.where(near < 0, (near - 0.5).ceil(), (near + 0.5).floor())  # halves away from zero
        each = worth.double() * scale[:, i].double()
        wanted += (near.double() @ of.T) * each
        slack += each * 32 * 2  # two numbers of a block may lie so near a half that they differ
    assert ((got.double() - wanted).abs() <= slack + 1e-4 * wanted.abs()).all()


def test_a_row_has_the_same_bits_alone_and_among_others(loops):
    weight, scale, bias = quantized(100, 576, seed=3)
    product = loops.product(weight, scale, bias)
    x = rows_of(130, 576)
    together = product(x)
    for i in (0, 3, 64, 127, 128, 129):
        assert torch.equal(product(x[i : i + 1])[0], together[i])


def test_a_row_of_zeros_gives_the_bias(loops):
    weight, scale, bias = quantized(20, 12, seed=1)
    assert torch.equal(loops.product(weight, scale, bias)(torch.zeros(1, 12))[0], bias)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_stays_in_its_row_and_is_seen_there(loops, bad):
    weight, scale, _ = quantized(20, 12, seed=1)
    x = rows_of(3, 12)
    x[1, 5] = bad
    got = loops.product(weight, scale, None)(x)
    assert got[[0, 2]].isfinite().all()
    assert not got[1].isfinite().any()


@st.composite
def steps(draw):
    """Sequences with so many tokens held, and how many each is to get."""
    held = draw(st.lists(st.integers(0, 3 * BLOCK), min_size=1, max_size=6))
    new = [draw(st.sampled_from((1, 1, 1, 5))) for _ in held]
    return held, new


@given(
    steps(),
    st.sampled_from(((1, 1), (4, 2), (9, 3), (6, 1))),
    st.sampled_from((8, 20, 64)),
    st.sampled_from((None, 7, 40)),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_attention_over_blocks_equals_torch_s(loops, step, heads, d, size, is_half):
    held, new = step
    dtype = torch.float16 if is_half and loops.has_halves else torch.float32
    heads, kv_heads = heads
    generator = torch.Generator().manual_seed(sum(held))
    pools = [KVCache(40 * BLOCK, 1, dtype=dtype) for _ in range(2)]
    made = [torch.randn(40, kv_heads, BLOCK, d, generator=generator) for _ in range(2)]
    # Of a model's projections, split into heads: neighbours in memory are one token's, not one head's.
    query, key, value = (
        torch.randn(sum(new), n, d, generator=generator).transpose(0, 1) for n in (heads, kv_heads, kv_heads)
    )
    outs = []
    for pool, is_compiled in zip(pools, (True, False), strict=True):
        kvs = [SequenceCache(pool, origin("tiny:1", str(i)), [7]) for i in range(len(held))]
        order = random.Random(1)
        while any(kv.length < count for kv, count in zip(kvs, held, strict=True)):  # blocks of all, interleaved
            kv, count = order.choice(list(zip(kvs, held, strict=True)))
            some = min(order.randint(1, BLOCK), count - kv.length)
            assert kv.grow(some)
            kv.advance([3] * some)
        for whole, numbers in zip(pool.layer(0, key, value), made, strict=True):
            whole.copy_(numbers)
        assert all(kv.grow(count) for kv, count in zip(kvs, new, strict=True))
        plan = Plan(new, kvs, CPU, is_compiled=is_compiled)
        outs.append(plan.attend(0, query, key, value, None, size))
    torch.testing.assert_close(*outs, atol=2e-5, rtol=2e-5)
    for ours, theirs in zip(*(pool.layer(0, key, value) for pool in pools), strict=True):
        assert torch.equal(ours, theirs)


@given(
    st.lists(st.tuples(st.integers(1, 150), st.integers(0, 90)), min_size=1, max_size=5),
    st.sampled_from(((1, 1), (4, 2), (9, 3))),
    st.sampled_from((8, 20, 32, 80)),
    st.sampled_from((None, 1, 7, 70)),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_attention_within_sequences_equals_torch_s(loops, sequences, heads, d, size, is_causal):
    """Of a causal sequence, some keys may have been there before its queries."""
    new = [count for count, _ in sequences]
    asked = [0, *accumulate(new)]
    held = [0, *accumulate(count + before for count, before in sequences)] if is_causal else asked
    heads, kv_heads = heads
    generator = torch.Generator().manual_seed(sum(new))
    query, key, value = (
        torch.randn(tokens, n, d, generator=generator).transpose(0, 1)
        for tokens, n in ((asked[-1], heads), (held[-1], kv_heads), (held[-1], kv_heads))
    )
    got = loops.row((query, key, value), asked, held, d**-0.5, is_causal=is_causal, window=size)
    for (start, end), (first, last) in zip(pairwise(asked), pairwise(held), strict=True):
        mask = window(end - start, last - first, size, causal=is_causal, device=CPU)
        k, v = (x[:, first:last].repeat_interleave(heads // kv_heads, 0) for x in (key, value))
        wanted = scaled_dot_product_attention(query[:, start:end], k, v, mask)
        torch.testing.assert_close(got[start:end], wanted.transpose(0, 1), atol=2e-5, rtol=2e-5)


def test_a_query_has_the_same_bits_whichever_are_computed_beside_it(loops):
    query, key, value = (torch.randn(2, 300, 32, generator=torch.Generator().manual_seed(4)) for _ in range(3))
    whole = loops.row((query, key, value), (0, 300), (0, 300), 1.0, is_causal=True, window=None)
    for start, end in ((0, 10), (10, 129), (129, 130), (130, 300)):
        some = query[:, start:end], key[:, :end], value[:, :end]
        part = loops.row(some, (0, end - start), (0, end), 1.0, is_causal=True, window=None)
        assert torch.equal(part, whole[start:end])


@given(st.integers(1, 40), st.integers(2, 30), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_number_has_the_same_bits_wherever_it_stands(loops, width, rows, seed):
    """Also where rows are not whole lanes of a processor: what is left of lanes is computed by other instructions."""
    drawn = torch.Generator().manual_seed(seed)
    x, up = torch.randn(2, rows, width, generator=drawn) * 4
    gelu, gate = loops.gelu(x), loops.gate(x.clone(), up)
    for i in range(rows):
        assert torch.equal(loops.gelu(x[i].clone()), gelu[i])
        assert torch.equal(loops.gate(x[i].clone(), up[i].clone()), gate[i])


def test_threads_that_compute_at_once_disturb_none_of_each_other_s_bits(loops):
    """Inputs have rows of their own on every core while answers are being generated."""
    weight, scale, bias = quantized(96, 576, seed=5)
    product, x = loops.product(weight, scale, bias), rows_of(40, 576)
    qkv = tuple(torch.randn(3, 90, 40, generator=torch.Generator().manual_seed(i)) for i in range(3))

    def computed(some):
        lengths = (0, some, 90)
        return product(x[:some].clone()), loops.row(qkv, lengths, lengths, 0.2, is_causal=True, window=None)

    sizes = [1, 3, 17, 40] * 10
    alone = {some: computed(some) for some in set(sizes)}
    with ThreadPoolExecutor(3) as pool:
        for some, found in zip(sizes, pool.map(computed, sizes), strict=True):
            assert all(map(torch.equal, found, alone[some]))


def test_gelu_is_within_its_bound_of_the_exact_one(loops):
    x = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([-1e30, 1e30, 0.0, -0.0])])
    exact = torch.nn.functional.gelu(x.double())
    assert ((loops.gelu(x).double() - exact).abs() <= 3e-7 * x.double().abs()).all()
    assert loops.gelu(torch.tensor([float("nan")])).isnan().all()


def test_what_does_not_fit_is_left_to_torch_and_not_computed_beside_its_memory(loops):
    weight, scale, _ = quantized(20, 12, seed=1)
    product = loops.product(weight, scale, None)
    for x in (torch.zeros(2, 24), torch.zeros(2, 6), torch.zeros(2, 12).double(), torch.zeros(2, 12).bfloat16()):
        assert product(x) is None
    assert loops.norm(torch.zeros(3, 64), torch.zeros(8), 1e-6) is None
    assert loops.rotate(torch.zeros(1, 5, 2, 8), torch.zeros(1, 5, 4), torch.zeros(1, 5, 4)) is None
    three = torch.zeros(2, 7, 8), torch.zeros(2, 7, 8), torch.zeros(2, 7, 8)
    for asked, held in (((0, 8), (0, 7)), ((0, 7), (0, 9)), ((0, 3, 7), (0, 7)), ((0, 3, 3, 7), (0, 3, 4, 7))):
        assert loops.row(three, asked, held, 1.0, is_causal=True, window=None) is None


def test_without_a_compiler_the_reason_is_said_in_a_sentence(tmp_path):
    source = Path(shutil.copy(cpu_kernels.SOURCE, tmp_path))
    with pytest.raises(OSError, match="no C compiler"):
        cpu_kernels.load_library(HERE, source, ("no-such-compiler",))


def test_a_source_that_does_not_compile_leaves_nothing_behind(tmp_path):
    source = tmp_path / "kernels.c"
    source.write_text("this is no C")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        cpu_kernels.load_library(HERE, source)
    assert "error" in failed.value.stderr
    assert list(tmp_path.iterdir()) == [source]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A source with its library beside it, compiled once for those who only look at it."""
    source = Path(shutil.copy(cpu_kernels.SOURCE, tmp_path_factory.mktemp("compiled")))
    cpu_kernels.load_library(HERE, source)
    return source


def test_what_was_compiled_once_is_found_again(compiled):
    cpu_kernels.load_library(HERE, compiled, ("no-such-compiler",))
    assert len(list(compiled.parent.iterdir())) == 2


def test_a_damaged_library_is_made_again(compiled, tmp_path):
    source = Path(shutil.copy(cpu_kernels.SOURCE, tmp_path))
    (made,) = compiled.parent.glob("*.so")
    damaged = tmp_path / made.name
    damaged.write_bytes(b"cut off")
    cpu_kernels.load_library(HERE, source)
    assert damaged.stat().st_size == made.stat().st_size


def test_several_threads_that_start_at_once_have_one_library(tmp_path):
    source = Path(shutil.copy(cpu_kernels.SOURCE, tmp_path))
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: cpu_kernels.load_library(HERE, source), range(2)))
    assert len(made) == 2
    assert len(list(tmp_path.iterdir())) == 2
