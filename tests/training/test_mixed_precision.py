"""Mixed precision: which weights have a copy, what the copies' gradients sum to, and the step without a compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.test_steps import made_run

pytestmark = pytest.mark.torch


def layers():
    import torch
    from torch import nn

    torch.manual_seed(4)
    model = nn.ModuleDict({"first": nn.Linear(8, 16), "norm": nn.LayerNorm(16), "tied": nn.Linear(16, 16, bias=False)})
    model["again"] = nn.Linear(16, 16, bias=False)
    model["again"].weight = model["tied"].weight
    return model


def test_only_weights_of_one_linear_layer_have_a_copy_and_only_inside_of_the_block() -> None:
    import torch

    from llmos.training.mixed_precision import MixedWeights

    model = layers()
    mixed = MixedWeights(model, dict(model.named_parameters()))
    assert set(mixed.masters) == {"first.weight", "first.bias"}
    with mixed.computing() as copies:
        assert model["first"].weight is copies["first.weight"]
        assert copies["first.weight"].dtype == torch.bfloat16
        assert model["norm"].weight.dtype == torch.float32
    assert model["first"].weight is mixed.masters["first.weight"]
    assert not mixed.copies


def test_gradients_of_several_passes_are_added_in_float32_and_rounded_once() -> None:
    import torch

    from llmos.training.mixed_precision import MixedWeights

    model = layers()
    mixed = MixedWeights(model, dict(model.named_parameters()))
    with mixed.computing() as copies:
        bias = copies["first.bias"]
        grown = []
        for i in range(3):
            bias.grad = torch.full_like(bias, 1.0 if i == 0 else 0.002)  # each alone is lost beside 1 in bfloat16
            grown.append(bias.grad.float())
            mixed.add_up(is_last=i == 2)
        assert bias.grad is not None
        assert torch.equal(bias.grad, sum(grown).to(torch.bfloat16))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_without_a_compiler_learns_what_a_run_with_kernels_learns(tmp_path: Path, workers: int) -> None:
    import torch

    results = []
    for has_kernels in (True, False):
        run = made_run(tmp_path, dtype="bfloat16")
        run.position.threads = workers
        for one, _ in run.optimizer.mixed:
            if not has_kernels:
                one.kernels = None
        assert run.mixed.masters
        assert run.train()
        results.append({name: p.detach().clone() for name, p in run.weights.items()})
    for name, weight in results[0].items():
        assert weight.dtype == torch.float32
        if not name.endswith("key.bias"):  # its gradient is rounding alone
            assert torch.allclose(weight, results[1][name], atol=2e-3), name


def test_moments_of_mixed_weights_are_in_the_checkpoint_under_the_names_of_others(tmp_path: Path) -> None:
    run = made_run(tmp_path, dtype="bfloat16")
    assert run.train()
    kinds = {key.rpartition("/")[2] for key in run.optimizer.state()}
    assert kinds == {"step", "exp_avg", "exp_avg_sq"}
    name = next(iter(run.mixed.masters))
    again = made_run(tmp_path, dtype="bfloat16")
    again.optimizer.load(run.optimizer.state())
    same, before = again.optimizer.state(), run.optimizer.state()
    assert all((same[f"{name}/{kind}"] == before[f"{name}/{kind}"]).all() for kind in kinds)


@pytest.mark.parametrize("method", ["lora", "dora", "bitfit", "houlsby", "adalora", "vera"])
def test_copies_of_a_frozen_base_change_no_bit_of_what_is_learned(tmp_path: Path, method: str) -> None:
    results, copied = [], []
    for computes_copies in (True, False):
        run = made_run(tmp_path, dtype="bfloat16", method=method)
        run.position.threads = 1
        if not computes_copies:
            run.frozen.release()
        copied.append(len(run.frozen))
        assert run.train()
        results.append({name: p.detach().clone() for name, p in run.weights.items()})
    assert (copied[0] > 0) == (method != "dora"), "DoRA reads the base's weights, which are float32"
    assert copied[1] == 0
    for name, weight in results[0].items():
        assert (weight == results[1][name]).all(), name


def test_a_frozen_base_has_its_weights_back_after_the_training(tmp_path: Path) -> None:
    import torch

    from llmos.nn.frozen_linear import FrozenLinear
    from llmos.nn.held_weight import HeldFloats

    run = made_run(tmp_path, dtype="bfloat16", method="lora")
    backbone = run.candidate.loaded.backbone
    weights = [p for _, p in backbone.named_parameters() if not p.requires_grad]
    with run.workers():
        copied = [one for one in backbone.modules() if isinstance(one, FrozenLinear)]
        assert len(copied) == len(run.frozen) > 0
        assert {one.held.weight.dtype for one in copied if isinstance(one.held, HeldFloats)} == {torch.bfloat16}
    after = [p for _, p in backbone.named_parameters() if not p.requires_grad]
    assert all(one is other for one, other in zip(weights, after, strict=True))
