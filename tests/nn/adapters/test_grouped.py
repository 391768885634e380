"""Adapters in training in one row: each learns what it would learn alone, with PEFT's layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_training
import torch
from torch import Tensor

from llmos.abi.method import can_group, method_of
from llmos.nn.adapters.adapter import Adapter
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.adapters.grouped import training_segments
from llmos.nn.adapters.grouped_tuned import GroupedTuned, begin_grouped
from llmos.nn.adapters.methods import tuner_of
from llmos.nn.load import Loaded, load
from llmos.nn.packing import forward, pack

pytestmark = pytest.mark.torch

VALUES = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": None}
ROWS = [[5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15, 16]]


def loaded(folder: Path, architecture: str) -> Loaded:
    torch.manual_seed(0)
    found = load(tiny_training.base(folder, architecture), dtype="float32", device="cpu")
    found.backbone.eval()
    return found


def fresh(found: Loaded, method: str = "lora", seed: int = 1, **changed: int) -> GroupedTuned:
    tuned = begin_grouped(found, method_of(method), VALUES | changed, seed)
    shake(tuned, seed)
    return tuned


def shake(tuned: GroupedTuned, seed: int) -> None:
    """Other weights than those that change nothing."""
    with torch.no_grad():
        tuned.module.flat.add_(torch.randn(tuned.module.flat.shape, generator=torch.Generator().manual_seed(seed)) / 9)


def learn(found: Loaded, adapter: Adapter | None, weights: list[torch.nn.Parameter]) -> tuple[Tensor, list[Tensor]]:
    """The states of the rows, and the gradients of a sum of them."""
    if adapter is None:
        states = forward(found.backbone, pack(ROWS, torch.device("cpu")))
    else:
        with adapter.on():
            states = forward(found.backbone, pack(ROWS, torch.device("cpu")))
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    return states.detach(), [weight.grad.clone() for weight in weights if weight.grad is not None]


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_it_computes_and_learns_what_layers_of_peft_do(tmp_path: Path, architecture: str, method: str) -> None:
    mine, theirs = loaded(tmp_path, architecture), loaded(tmp_path, architecture)
    tuned = fresh(mine, method)
    tuner_of(method_of(method)).add(theirs, method_of(method), VALUES, 1)
    matrices = [p for name, p in theirs.backbone.named_parameters() if p.requires_grad]
    at = 0
    with torch.no_grad():
        for p in matrices:
            p.copy_(tuned.module.flat[0, at : at + p.numel()].view_as(p))
            at += p.numel()
    assert at == tuned.module.flat.numel()
    states, (gradient,) = learn(mine, tuned.adapter, [tuned.module.flat])
    expected, gradients = learn(theirs, None, matrices)
    torch.testing.assert_close(states, expected)
    torch.testing.assert_close(gradient[0], torch.cat([one.flatten() for one in gradients]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_in_one_row_learn_as_each_alone(tmp_path: Path, dtype: str) -> None:
    found = loaded(tmp_path, "bert")
    several = [fresh(found, seed=2, rank=2), fresh(found, seed=3), fresh(found, "rslora", seed=4, rank=8)]
    weights = [one.module.flat for one in several]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        alone = [learn(found, one.adapter, [one.module.flat]) for one in several]
    for one in weights:
        one.grad = None
    size = sum(map(len, ROWS))
    segments = [(one.adapter, i * size, (i + 1) * size) for i, one in enumerate(several)]
    rows = ROWS * len(several)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"), training_segments(segments):
        states = forward(found.backbone, pack([*rows, [5, 5]], torch.device("cpu")))  # the last tokens are nobody's
    total = torch.zeros(())
    for _, start, end in segments:
        part = states[start:end]
        total = total + (part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum()
    total.backward()
    most = {"float32": 1e-4, "bfloat16": 5e-2}[dtype]
    for (_, start, end), (expected, gradients), weight in zip(segments, alone, weights, strict=True):
        torch.testing.assert_close(states[start:end].float(), expected.float(), rtol=most, atol=most)
        assert weight.grad is not None
        assert (weight.grad - gradients[0]).norm() <= most * gradients[0].norm()


def test_what_was_trained_is_read_as_an_adapter_of_peft(tmp_path: Path) -> None:
    found = loaded(tmp_path, "bert")
    tuned = fresh(found)
    (tmp_path / "made").mkdir()
    tuned.save(tmp_path / "made", "0" * 64)
    read = load_adapter(tmp_path / "made", found.backbone, "made:1")
    with torch.no_grad():
        row = pack(ROWS, torch.device("cpu"))
        with tuned.adapter.on():
            mine = forward(found.backbone, row)
        with read.on():
            torch.testing.assert_close(forward(found.backbone, row), mine, rtol=1e-4, atol=1e-5)


def test_the_base_is_as_it_was_when_an_adapter_was_begun(tmp_path: Path) -> None:
    found = loaded(tmp_path, "bert")
    before = [(name, type(module)) for name, module in found.backbone.named_modules()]
    tuned = begin_grouped(found, method_of("lora"), VALUES, 1)
    assert [(name, type(module)) for name, module in found.backbone.named_modules()] == before
    assert all(p is tuned.module.flat or not p.requires_grad for p in found.backbone.parameters())


def test_methods_with_other_changes_or_dropout_train_alone() -> None:
    assert can_group("lora", VALUES)
    assert not can_group("lora", VALUES | {"dropout": 0.1})
    assert not can_group("dora", VALUES)
