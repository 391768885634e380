"""One step and one epoch: passes add up to the batch, rates rise and fall, patience ends, the best weights stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_training
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadSetting
from llmos.abi.recipe import Data, Recipe
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch


def made_run(
    folder: Path,
    metrics: list[float] | None = None,
    dtype: str = "float32",
    validation_rows: int = 0,
    **changes: Any,  # Any: fields of a recipe
) -> Any:  # Any: a Run, whose module imports torch
    from llmos.data.dataset import gather
    from llmos.tasks import Settings
    from llmos.training.candidate import begin
    from llmos.training.checkpoint import Checkpoints
    from llmos.training.examples import make_examples
    from llmos.training.losses import balance_labels
    from llmos.training.objectives import loss_of
    from llmos.training.recipe import resolve
    from llmos.training.trainer import Hooks, Trainer

    path = tiny_training.sorting(folder, rows=60)
    recipe = Recipe(
        "classify", "n", "tiny:1", Data(str(path)), **{"method": "full", "batch_size": 8, "epochs": 3.0, **changes}
    )
    data = gather(recipe.data, "classify", {}, {})
    recipe = resolve(recipe, len(data.splits.train), 3)
    candidate = begin(tiny_training.base(folder), recipe, 3, dtype, "cpu0")
    settings = Settings(data.splits.labels, recipe.options, candidate.loaded.max_tokens)
    examples = make_examples("classify", data.splits.train, candidate.loaded.tokenizer, settings)
    weights = balance_labels(examples, 3) if recipe.class_weights == "balanced" else None
    left = list(metrics or [])
    around = Hooks(
        lambda progress: None, lambda: False, lambda: left.pop(0) if left else 0.5, validation_rows=validation_rows
    )
    return Trainer(
        candidate, loss_of(recipe, 3, weights), examples, recipe, Checkpoints(folder / "checkpoints"), around, ""
    )


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_a_batch_in_many_passes_is_the_batch_in_one(tmp_path: Path, class_weights: str, dtype: str) -> None:
    import torch

    results, losses = [], []
    for budget in (1, 100_000):
        run = made_run(tmp_path, dtype=dtype, token_budget=budget, class_weights=class_weights, label_smoothing=0.1)
        run.candidate.train = lambda mode=True: None  # dropout draws differ between passes; without it they must agree
        for module in run.candidate.modules:
            module.eval()
        with run.workers() as crew:
            for batch in ([0, 1, 2, 3, 4], [5, 6]):
                run.step(crew, batch)
        results.append({name: p.detach().clone() for name, p in run.weights.items()})
        losses.append(run.position.loss_sum)
    assert losses[0] == pytest.approx(losses[1], rel=tiny_training.RELATIVE[dtype])
    if dtype != "float32":  # gradients are near: but the smallest change their signs, and Adam steps by these
        return
    for name, weight in results[0].items():
        if not name.endswith(
            "key.bias"
        ):  # softmax does not see it: its gradient is rounding, and Adam steps by its sign
            assert torch.allclose(weight, results[1][name], atol=2e-5), name


def test_patience_ends_a_run_that_does_not_get_better_and_keeps_its_best(tmp_path: Path) -> None:
    import torch

    run = made_run(tmp_path, metrics=[0.3, 0.9, 0.8, 0.7, 0.6], epochs=5.0, patience=2)
    assert run.train()
    assert [mark.metric for mark in run.position.marks] == [0.3, 0.9, 0.8, 0.7]
    assert run.position.best_step == 2 * run.epoch_steps
    assert all(torch.equal(p, run.best[name]) for name, p in run.weights.items())


@pytest.mark.parametrize(
    ("rows", "last", "kept"),
    [(10, 0.5, 3), (10, 0.2, 1), (99, 0.56, 3), (99, 0.5, 1), (100, 0.59, 1), (0, 0.59, 1)],
)
def test_few_validation_rows_keep_a_best_epoch_only_beyond_chance(
    tmp_path: Path, rows: int, last: float, kept: int
) -> None:
    import torch

    run = made_run(tmp_path, metrics=[0.6, 0.5, last], validation_rows=rows)
    assert run.train()
    assert run.kept_step == kept * run.epoch_steps
    assert all(torch.equal(p, run.best[name]) for name, p in run.weights.items()) == (kept == 1)


def test_a_part_of_an_epoch_can_be_trained(tmp_path: Path) -> None:
    run = made_run(tmp_path, epochs=1.5, save_best=False)
    assert run.train()
    assert (run.position.step, run.total) == (9, 9)
    assert [mark.step for mark in run.position.marks] == [6, 9]


def test_a_loss_that_runs_away_says_which_rate_to_lower(tmp_path: Path) -> None:
    import torch

    run = made_run(tmp_path)
    with torch.no_grad():
        run.candidate.head.out.weight.fill_(float("inf"))
    with fails_with(BadSetting, key="learning_rate", value=run.recipe.learning_rate):
        run.train()


def test_only_the_token_embeddings_are_stepped_by_rows(tmp_path: Path) -> None:
    full = made_run(tmp_path)
    assert full.candidate.sparse_tables() == {"backbone.embeddings.word_embeddings.weight"}
    adapted = made_run(tmp_path, method="lora")
    assert adapted.candidate.sparse_tables() == set()
    assert all("lora_" in name or name.startswith("head.") for name in adapted.weights)


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from(["linear", "cosine"]))
def test_the_rate_rises_to_its_full_and_falls_towards_none(total: int, warmup: float, schedule: str) -> None:
    from llmos.training.optimizer import factor_at

    factors = [factor_at(step, total, warmup, schedule) for step in range(total)]
    peak = factors.index(max(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_checkpoints_are_whole_or_not_there(tmp_path: Path) -> None:
    import torch

    from llmos.training.checkpoint import Checkpoints, TrainState

    folder = tmp_path / "checkpoints"
    kept = Checkpoints(folder)
    assert kept.read("r") is None
    weights = {"w": torch.arange(4.0)}
    kept.write(TrainState(step=3, best_step=3, recipe_digest="r"), weights, {"w/m": weights["w"] * 2}, weights)
    (folder / "draft").mkdir()
    (folder / "draft" / "weights.safetensors").write_bytes(b"half")
    kept.write(TrainState(step=5, best_step=3, recipe_digest="r"), weights, {}, weights)
    assert [one.name for one in folder.iterdir()] == ["step-5"]
    kept.write(TrainState(step=7, best_step=3, recipe_digest="r"), weights, {"w/m": weights["w"]}, weights)
    held = Checkpoints(folder).read("r")
    assert held is not None
    assert (held.position.step, held.moments.keys()) == (7, {"w/m"})
    assert torch.equal(held.best["w"], weights["w"])
