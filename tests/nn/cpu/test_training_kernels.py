"""The optimizer's kernels: torch's AdamW on the sum of the parts, and the same bits with any number of threads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.torch
SIZES = (1, 511, 513, (1 << 15) + 3, 100_000)


def parts_of(size: int, count: int) -> list:
    import torch

    torch.manual_seed(size + count)
    return [torch.randn(size).to(torch.bfloat16) for _ in range(count)]


@pytest.fixture(scope="module")
def loops():
    from llmos.nn.cpu.cpu_kernels import kernels

    found = kernels()
    if found is None:
        pytest.skip("there is no C compiler")
    return found.training


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_steps_are_those_of_torch_on_the_sum_of_the_parts(loops, size: int, count: int) -> None:
    import torch

    from llmos.nn.cpu.training_kernels import AdamWStep

    weight = torch.randn(size)
    other = torch.nn.Parameter(weight.clone())
    theirs = torch.optim.AdamW([other], lr=1e-2, betas=(0.9, 0.999), weight_decay=0.1)
    moments, copy = (torch.zeros(size), torch.zeros(size)), weight.to(torch.bfloat16)
    for step in range(1, 5):
        parts = parts_of(size, count)
        loops.adamw(weight, moments, copy, parts, AdamWStep(0.5, 1e-2, 0.1, (0.9, 0.999), 1e-8, step))
        other.grad = sum(one.float() for one in parts) * 0.5
        theirs.step()
    assert torch.allclose(weight, other.detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(copy, weight.to(torch.bfloat16))


@pytest.mark.parametrize("size", SIZES)
def test_squares_are_those_of_the_sum(loops, size: int) -> None:
    parts = parts_of(size, 2)
    expected = float((parts[0].float() + parts[1].float()).double().square().sum())
    assert loops.squares(parts) == pytest.approx(expected, rel=1e-5)


def test_bits_do_not_depend_on_the_number_of_threads(loops) -> None:
    import torch

    from llmos.nn.cpu.training_kernels import AdamWStep

    size, threads, results = 200_000, torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            torch.manual_seed(5)
            weight, moments = torch.randn(size), (torch.zeros(size), torch.zeros(size))
            copy, parts = weight.to(torch.bfloat16), parts_of(size, 2)
            squares = loops.squares(parts)
            loops.adamw(weight, moments, copy, parts, AdamWStep(1 / math.sqrt(squares), 1e-2, 0, (0.9, 0.999), 1e-8, 1))
            results.append((squares, weight, *moments))
    finally:
        torch.set_num_threads(threads)
    assert len({squares for squares, *_ in results}) == 1
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0][1:], other[1:], strict=True))


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=True, allow_infinity=True))
def test_every_number_is_rounded_to_bfloat16_as_torch_rounds_it(loops, number: float) -> None:
    import torch

    from llmos.nn.cpu.training_kernels import AdamWStep

    weight, copy = torch.tensor([number]), torch.zeros(1, dtype=torch.bfloat16)
    moments, part = (torch.zeros(1), torch.zeros(1)), torch.zeros(1, dtype=torch.bfloat16)
    loops.adamw(weight, moments, copy, [part], AdamWStep(1.0, 0.0, 0.0, (0.9, 0.999), 1e-8, 1))
    expected = torch.tensor([number]).to(torch.bfloat16)
    assert torch.equal(copy, expected) or (bool(copy.isnan()) and bool(expected.isnan()))
