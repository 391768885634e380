"""Eight LoRA trials in one packed row beside one alone: seconds of a step, by turns, and what each has learned."""

from __future__ import annotations

import math
import random
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench import data
from bench.box import Box
from bench.engine import base_path
from bench.record import Figure, Record, Target
from bench.rounds import take_turns
from llmos.abi.recipe import Data, Recipe
from llmos.data.row import LabelRow
from llmos.evaluation.predictions import predict
from llmos.tasks import Settings
from llmos.training.candidate import Candidate, begin, begin_several
from llmos.training.checkpoint import Checkpoints
from llmos.training.examples import make_examples
from llmos.training.objectives import loss_of
from llmos.training.recipe import resolve
from llmos.training.trainer import Hooks, Trainer
from llmos.training.trainer_pack import PackHooks, RunOfPack, TrainerPack

TOGETHER = 8
TRAIN, TEST = 2_000, 872
STEPS = {"quick": 5, "full": 12}  # of a round
ROUNDS = {"quick": 6, "full": 40}
MOST = Target(3.0, at_most=True)


def measure(folder: Path, home: Path, *, mode: str, dtype: str, device: str | None) -> Record:
    """One trial and eight train by turns, so many steps each; at the end all are scored on the same rows."""
    place = data.need(folder, "sst2")
    train, test = rows_of(place / "train.tsv"), rows_of(place / "dev.tsv")[:TEST]
    random.Random(7).shuffle(train)
    train = train[:TRAIN]
    labels = tuple(sorted({row.labels[0] for row in train}))
    with Box(home, dtype) as box:
        base, found = base_path(box.base()), box.device(device)
    asked = Recipe(
        task="classify",
        name="bench",
        base="minilm",
        data=Data(""),
        method="lora",
        epochs=math.ceil(ROUNDS[mode] * STEPS[mode] * 16 / len(train)),
        batch_size=16,
        checkpoint_every_s=math.inf,
        save_best=False,
    )
    recipe = resolve(asked, rows=len(train), labels=len(labels))
    recipes = [
        recipe,
        *(replace(recipe, learning_rate=(recipe.learning_rate or 0) * 2**-i) for i in range(1, TOGETHER)),
    ]
    settings = Settings(labels)
    with tempfile.TemporaryDirectory() as aside, ExitStack() as open_now:

        def trainer(candidate: Candidate, one: Recipe) -> Trainer:
            examples = make_examples("classify", train, candidate.loaded.tokenizer, settings)
            hooks = Hooks(lambda progress: None, lambda: False, lambda: 0.0)
            return Trainer(candidate, loss_of(one, len(labels)), examples, one, Checkpoints(Path(aside)), hooks, "")

        alone = trainer(begin(base, recipe, len(labels), found["dtype"], found["name"]), recipe)
        several = begin_several(base, recipes, len(labels), found["dtype"], found["name"])
        runs = [RunOfPack(trainer(one, recipes[i]), alone.total) for i, one in enumerate(several)]
        pack = TrainerPack(runs, PackHooks(lambda: None, lambda rate: None, lambda: False))
        crew, crews = open_now.enter_context(alone.workers()), open_now.enter_context(pack.workers())
        alone.candidate.train()

        def step_alone() -> None:
            for _ in range(STEPS[mode]):
                alone.step(crew, alone.next_batch())

        def step_together() -> None:
            for _ in range(STEPS[mode]):
                pack.step(crews)

        one, eight = "one alone", f"{TOGETHER} together"
        seconds = take_turns({one: step_alone, eight: step_together}, ROUNDS[mode])
        threads = alone.position.threads
    times = {name: np.array(taken[1:]) / STEPS[mode] * 1e3 for name, taken in seconds.items()}  # the first compiles
    by_round = times[eight] / times[one]

    def score(candidate: Candidate) -> float:
        candidate.train(False)
        found = predict(
            candidate, "classify", make_examples("classify", test, candidate.loaded.tokenizer, settings), settings
        )
        said = [labels[int(np.argmax(prediction.probabilities))] for prediction in found]
        return float(np.mean([mine == row.labels[0] for mine, row in zip(said, test, strict=True)]))

    scores = score(alone.candidate), score(several[0])
    figures = [
        Figure(f"{eight} / {one}", float(np.median(by_round)), "x", *_ends(by_round), MOST, note="by rounds"),
        *(Figure(f"a step, {name}", float(np.median(ms)), "ms", *_ends(ms)) for name, ms in times.items()),
        Figure("accuracy, alone", scores[0]),
        Figure("accuracy, the same trial among eight", scores[1], note=f"{alone.position.step:,} steps each"),
    ]
    told = {
        "device": found["name"],
        "dtype": found["dtype"],
        "threads": threads,
        "rows": f"{len(train):,} train, {len(test):,} test of SST-2",
        "batch": "16 of each trial",
        "rank": 16,
    }
    return Record("trials", mode, told, tuple(figures))


def rows_of(path: Path) -> list[LabelRow]:
    lines = path.read_text(encoding="utf-8").splitlines()
    parts = [line.rsplit("\t", 1) for line in lines]
    return [LabelRow({"text": text}, (label,), path.name, i) for i, (text, label) in enumerate(parts, start=1)]


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())
