"""Fine-tuning speed: llmos beside the tutorial loop and transformers' Trainer on the same rows, with the F1 of each."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path

import torch
from seqeval.metrics import f1_score

from bench import data
from bench.box import Box
from bench.engine import base_path
from bench.record import Figure, Record, Target
from bench.relay import Baton, Track, rate, relay
from bench.trainers import Outcome, Work, trainer, tutorial
from llmos.abi.process import Progress
from llmos.abi.recipe import Data, Recipe
from llmos.data.families import tags
from llmos.data.row import TagRow
from llmos.evaluation.predictions import predict
from llmos.tasks import Settings
from llmos.training.candidate import begin
from llmos.training.checkpoint import Checkpoints
from llmos.training.examples import make_examples
from llmos.training.objectives import loss_of
from llmos.training.recipe import resolve
from llmos.training.trainer import Hooks, Trainer

OURS, TUTORIAL, TRAINER = "llmos", "tutorial loop, padded to 128", "transformers Trainer, dynamic padding"
EPOCHS, LEARNING_RATE, BATCH_SIZE = 3, 2e-4, 16
QUICK_TRAIN, QUICK_TEST = 320, 400
LAP_S = {"quick": 3.0, "full": 20.0}
F1_WITHIN = Target(-0.005)


def measure(folder: Path, home: Path, *, count: int | None, dtype: str, device: str | None, mode: str) -> Record:
    """All three train to their ends, by turns, and each is scored on the same test rows; `dtype`: that of llmos."""
    place = data.need(folder, "conll2003")
    train, test = data.conll(place / "eng.train"), data.conll(place / "eng.testb")
    if mode == "quick" or count:
        random.Random(7).shuffle(train)
        train, test = train[: count or QUICK_TRAIN], test[: count or QUICK_TEST]
    with Box(home, dtype) as box:
        base, found = box.base(), box.device(device)
    work = Work(
        base=str(base),
        train=train,
        test=test,
        labels=tags.labels_of("tag", rows_of(train)),
        epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        device=found["name"],
        dtype=found["dtype"],
    )
    tracks = relay({TUTORIAL: tutorial, TRAINER: trainer, OURS: ours}, work, LAP_S[mode])
    settings = {
        "device": work.device,
        "dtype of llmos": work.dtype,
        "threads": tracks[OURS].result.threads,
        "rows": f"{len(train):,} train, {len(test):,} test",
        "epochs": EPOCHS,
        "batch": BATCH_SIZE,
        "learning rate": LEARNING_RATE,
    }
    return Record("finetune", mode, settings, tuple(_figures(tracks, is_full=mode == "full" and not count)))


def ours(baton: Baton, work: Work) -> Outcome:
    """The training loop that `llmos train` runs, less validating and checkpoints, which the peers do not do."""
    asked = Recipe(
        task="tag",
        name="bench",
        base="minilm",
        data=Data(""),
        method="full",
        epochs=work.epochs,
        learning_rate=work.learning_rate,
        batch_size=work.batch_size,
        checkpoint_every_s=math.inf,
        save_best=False,
    )
    recipe = resolve(asked, rows=len(work.train), labels=len(work.labels))
    base, settings = base_path(Path(work.base)), Settings(labels=work.labels)
    candidate = begin(base, recipe, len(work.labels), work.dtype, work.device)
    tokenizer = candidate.loaded.tokenizer
    train, test = (make_examples("tag", rows_of(part), tokenizer, settings) for part in (work.train, work.test))
    pace = _Pace(baton, work.batch_size)
    around = Hooks(report=pace.report, stop_asked=lambda: False, validate=lambda: 0.0)
    with tempfile.TemporaryDirectory() as folder:
        loss = loss_of(recipe, len(work.labels))
        run = Trainer(candidate, loss, train, recipe, Checkpoints(Path(folder)), around, digest="")
        baton.start()
        run.train()
        baton.stop()
    said = [[work.labels[i] for i in one.probabilities.argmax(-1)] for one in predict(candidate, "tag", test, settings)]
    f1 = f1_score([true for _, true in work.test], said)
    return Outcome(float(f1), torch.get_num_threads())


class _Pace:
    """Turns the loop's reports into steps of the baton; one more report comes at the end of an epoch."""

    def __init__(self, baton: Baton, batch_size: int) -> None:
        self._baton = baton
        self._batch_size = batch_size
        self._steps = 0

    def report(self, progress: Progress) -> None:
        steps = int(progress.done)
        if steps > self._steps:
            self._baton.step((steps - self._steps) * self._batch_size)
        self._steps = steps


def rows_of(sentences: list[data.Sentence]) -> list[TagRow]:
    return [
        TagRow({"tokens": words}, tuple(given), "conll2003", i) for i, (words, given) in enumerate(sentences, start=1)
    ]


def _figures(tracks: dict[str, Track], *, is_full: bool) -> list[Figure]:
    """On a subset F1 is far from where it ends, and says little: only the whole data is held to a target there."""
    ours_f1 = tracks[OURS].result.f1
    shown = []
    for peer, target in ((TUTORIAL, Target(12.0)), (TRAINER, Target(2.2))):
        shown.append(_ratio(tracks[OURS], tracks[peer], f"{OURS} / {peer}", target))
    for peer in (TUTORIAL, TRAINER):
        target_f1 = F1_WITHIN if is_full else None
        shown.append(Figure(f"F1 of {OURS} less that of {peer}", ours_f1 - tracks[peer].result.f1, target=target_f1))
    for name, track in tracks.items():
        rates = [lap.rate for lap in track.steady]
        shown.append(Figure(name, rate(track.steady), "examples/s", min(rates), max(rates), note="all its laps"))
    shown += [Figure(f"F1, {name}", track.result.f1) for name, track in tracks.items()]
    return shown


def _ratio(ours: Track, peer: Track, name: str, target: Target) -> Figure:
    """Over the laps that both ran, for those took turns and share one drift; the spread is lap against lap."""
    both = list(zip(ours.steady, peer.steady, strict=False))
    value = rate([mine for mine, _ in both]) / rate([theirs for _, theirs in both])
    by_lap = [mine.rate / theirs.rate for mine, theirs in both]
    return Figure(name, value, "x", min(by_lap), max(by_lap), target, note=f"{len(both)} laps each")
