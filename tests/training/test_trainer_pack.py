"""Runs that train in one row learn, step by step, what each learns alone."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training
import torch

from llmos.abi.recipe import Data, Recipe
from llmos.data.row import LabelRow
from llmos.tasks import Settings
from llmos.training.candidate import Candidate, begin, begin_several
from llmos.training.checkpoint import Checkpoints
from llmos.training.checkpoint_set import CheckpointSet
from llmos.training.examples import make_examples
from llmos.training.objectives import loss_of
from llmos.training.recipe import resolve
from llmos.training.trainer import Hooks, Trainer
from llmos.training.trainer_pack import PackHooks, RunOfPack, TrainerPack, can_share_rows

pytestmark = pytest.mark.torch

STEPS = 12
FIRST = Recipe(
    "classify", "x", "tiny:1", Data("x"), method="lora", epochs=9.0, learning_rate=3e-3, batch_size=8, seed=3
)
RECIPES = [
    FIRST,
    replace(FIRST, batch_size=4, learning_rate=1e-3),
    replace(FIRST, method="rslora", method_settings={"rank": 4, "alpha": 4}, options={"pooling": "cls"}, seed=5),
]


def without_dropout(candidate: Candidate) -> Candidate:
    """The candidate with no random numbers in its passes."""
    for part in candidate.modules:
        for module in part.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout_prob", None), float):
                module.dropout_prob = 0.0
    return candidate


def trainer(folder: Path, candidate: Candidate, recipe: Recipe) -> Trainer:
    rows = [line.rsplit(",", 1) for line in tiny_training.sorting(folder).read_text().splitlines()[1:]]
    labels = tuple(sorted({label for _, label in rows}))
    read = [LabelRow({"text": text}, (label,), "x", i) for i, (text, label) in enumerate(rows)]
    examples = make_examples("classify", read, candidate.loaded.tokenizer, Settings(labels))
    hooks = Hooks(lambda progress: None, lambda: False, lambda: 0.5)
    loss = loss_of(recipe, len(labels), None, candidate.head)
    return Trainer(candidate, loss, examples, resolve(recipe, len(read), 3), Checkpoints(folder / "none"), hooks, "")


def packed(folder: Path, dtype: str = "float32") -> list[Trainer]:
    candidates = begin_several(tiny_training.base(folder), RECIPES, 3, dtype, "cpu")
    assert can_share_rows(candidates)
    return [trainer(folder, without_dropout(one), recipe) for one, recipe in zip(candidates, RECIPES, strict=True)]


def train(runs: list[RunOfPack], checkpoints: CheckpointSet | None = None) -> None:
    def save() -> None:
        if checkpoints is not None:
            checkpoints.write({i: one.trainer for i, one in enumerate(runs)})

    assert TrainerPack(runs, PackHooks(save, lambda rate: None, lambda: False)).train()


@pytest.mark.parametrize("threads", [1, 2])
def test_each_run_has_the_losses_that_it_has_alone(tmp_path: Path, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = packed(tmp_path)
        train([RunOfPack(one, STEPS) for one in together])
        for recipe, found in zip(RECIPES, together, strict=True):
            candidate = begin(tiny_training.base(tmp_path), recipe, 3, "float32", "cpu")
            alone = trainer(tmp_path, without_dropout(candidate), recipe)
            with alone.workers() as crew:
                for _ in range(STEPS):
                    alone.step(crew, alone.next_batch())
            assert [step for step, _ in found.position.losses] == [step for step, _ in alone.position.losses]
            losses = [loss for _, loss in alone.position.losses]
            assert [loss for _, loss in found.position.losses] == pytest.approx(
                losses, rel=tiny_training.RELATIVE["float32"]
            )
            assert losses[-1] != losses[0]
    finally:
        torch.set_num_threads(before)


def test_runs_that_are_at_their_targets_wait_for_the_others(tmp_path: Path) -> None:
    runs = [RunOfPack(one, target) for one, target in zip(packed(tmp_path), (2, 7, 4), strict=True)]
    train(runs)
    assert [one.trainer.position.step for one in runs] == [2, 7, 4]


def test_a_run_whose_loss_is_no_number_stops_and_the_others_go_on(tmp_path: Path) -> None:
    trainers = packed(tmp_path)
    with torch.no_grad():
        trainers[1].weights["method.flat"].fill_(float("nan"))
    runs = [RunOfPack(one, 5) for one in trainers]
    train(runs)
    assert [one.trainer.position.step for one in runs] == [5, 0, 5]
    assert "diverged" in runs[1].fault
    assert all(torch.isfinite(p).all() for i in (0, 2) for p in trainers[i].weights.values())


def test_a_kill_while_checkpoints_are_written_leaves_all_of_the_moment_before(tmp_path: Path) -> None:
    place = tmp_path / "set"
    trainers = packed(tmp_path)
    train([RunOfPack(one, 4) for one in trainers], CheckpointSet(place))
    child = os.fork()
    if child == 0:
        trainers[1].save = lambda: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        train([RunOfPack(one, 6) for one in trainers], CheckpointSet(place))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list(place.glob("0-*"))) == 2  # the first had been written
    again = packed(tmp_path)
    kept = CheckpointSet(place)
    assert all(kept.read_into(i, one) for i, one in enumerate(again))
    assert [one.position.step for one in again] == [4, 4, 4]
    train([RunOfPack(one, 6) for one in again], kept)
    assert len(list(place.glob("0-*"))) == 1
    assert kept.read_into(0, again[0])
    assert again[0].position.step == 6
