"""Checks of a dataset: wrong labels, near duplicates and leaked test rows are planted in public sets, and looked for.

Labels are wrong at random in a tenth of the rows. cleanlab is asked about the same predictions, by its default filter
and by each of its others. The vectors of a set are computed once and kept in the bench's home.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues

from bench import data
from bench.box import Box
from bench.engine import base_path
from bench.record import Figure, Record, Target
from llmos.abi.frame import ModelPath
from llmos.abi.recipe import Data
from llmos.data.checks import leaks
from llmos.data.checks.confident_learning import label_issues
from llmos.data.checks.near import near_rows
from llmos.data.checks.subject import Subject
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.reader import read_rows
from llmos.data.row import LabelRow
from llmos.nn.frozen_vectors import FrozenEncoder, Vectors
from llmos.programs.label_predictions import MOST_TOKENS, predict_labels

SETS = (
    ("sst2", "train.tsv", (None, None), 7000),
    ("banking77", "train.csv", (None, None), 10_003),
    ("agnews", "test.csv", ("1,2", "0"), 3000),  # long texts: more of them are minutes
)
WITH_TARGET = ("sst2", "banking77")
NOISE = 0.1
SEEDS = {"quick": (1,), "full": (1, 2, 3)}
QUICK_ROWS = 1500  # of each set
FILTERS = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)
REACHED, FOUND_NEAR, NEAR_S = 0.6, 0.98, 5.0
NEAR_ROWS, NEAR_COPIES, LEAKED = 10_000, 500, 200
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Found:
    """How much of a list of suspects is planted, and how much of what is planted is in it."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(1e-9, self.precision + self.recall)


def measure(folder: Path, home: Path, *, mode: str) -> Record:
    """Near duplicates and leaks on all rows; wrong labels on some rows by one seed, with `full` on more by three."""
    figures = [*_near(folder), _leaks(folder)]
    with Box(home) as box:
        base = base_path(box.base())
    (home / "checks-vectors").mkdir(parents=True, exist_ok=True)
    for name, file, columns, most in SETS:
        rows = _rows(folder, name, file, columns)
        rows = random.Random(0).sample(rows, len(rows))[: most if mode == "full" else QUICK_ROWS]
        figures += _labels(name, rows, home / "checks-vectors", base, mode)
    settings = {"base": "minilm", "noise": NOISE, "seeds": SEEDS[mode], "tokens": MOST_TOKENS}
    return Record("checks", mode, settings, tuple(figures))


def plant_labels(true: Any, classes: int, seed: int) -> tuple[Any, Any]:  # Any: arrays
    """The labels of which a tenth are others, and which these are."""
    chance = np.random.default_rng(seed)
    is_wrong = np.zeros(len(true), dtype=bool)
    is_wrong[chance.choice(len(true), round(NOISE * len(true)), replace=False)] = True
    return np.where(is_wrong, (true + chance.integers(1, classes, len(true))) % classes, true), is_wrong


def edit(text: str, chance: random.Random) -> str:
    """The text with one typo: a letter is deleted, doubled, replaced, or swapped with its neighbour."""
    at = chance.choice([i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()] or [0])
    before, sign, after = text[:at], text[at], text[at + 1 :]
    edits = [before + after, before + sign + sign + after, before + chance.choice(LETTERS) + after]
    made = chance.choice([*edits, before + after[:1] + sign + after[1:]])
    return made if made != text else edits[0]


def _rows(folder: Path, name: str, file: str, columns: tuple[str | None, str | None]) -> list[LabelRow]:
    how = Data("", text=columns[0], label=columns[1])
    return list(read_rows(str(data.need(folder, name) / file), how, "classify", {}).rows)


def _labels(name: str, rows: Sequence[LabelRow], kept: Path, base: ModelPath, mode: str) -> Iterator[Figure]:
    names = sorted({row.labels[0] for row in rows})
    true = np.array([names.index(row.labels[0]) for row in rows])
    texts = [row.texts[0] for row in rows]
    layers = _vectors(name, texts, kept, base)
    ours, theirs, best, seconds = [], [], [], []
    for seed in SEEDS[mode]:
        given, is_wrong = plant_labels(true, len(names), seed)
        start = time.process_time()
        predicted = predict_labels(layers, texts, given, len(names))
        seconds.append(time.process_time() - start)
        ours.append(_score(label_issues(given, predicted).places, is_wrong))
        others = {
            how: _score(np.flatnonzero(find_label_issues(given, predicted, filter_by=how, n_jobs=1)), is_wrong)
            for how in FILTERS
        }
        theirs.append(others[FILTERS[0]])
        best.append(max(others.items(), key=lambda one: one[1].f1))
    has_target = mode == "full" and name in WITH_TARGET
    reached = Target(REACHED) if has_target else None
    note = f"{len(rows):,} rows"
    yield _spread(f"{name}: wrong labels, precision", [one.precision for one in ours], reached, note)
    yield _spread(f"{name}: wrong labels, recall", [one.recall for one in ours], reached, note)
    yield _spread(f"{name}: cleanlab's precision", [one.precision for one in theirs], None, FILTERS[0])
    yield _spread(f"{name}: cleanlab's recall", [one.recall for one in theirs], None, FILTERS[0])
    gain = [mine.f1 - other.f1 for mine, other in zip(ours, theirs, strict=True)]
    yield _spread(f"{name}: F1 less cleanlab's", gain, Target(0.0) if has_target else None, FILTERS[0])
    gain = [mine.f1 - other.f1 for mine, (_, other) in zip(ours, best, strict=True)]
    hows = ", ".join(how for how, _ in best)
    yield _spread(f"{name}: F1 less that of cleanlab's best filter", gain, None, f"{hows}, which the true labels chose")
    yield _spread(f"{name}: processor time of the heads", seconds, None, "without the vectors", "s")


def _vectors(name: str, texts: Sequence[str], kept: Path, base: ModelPath) -> list[Vectors]:
    path = kept / f"{name}-{len(texts)}-{MOST_TOKENS}.npy"
    if not path.exists():
        made = np.stack(FrozenEncoder(base, most_tokens=MOST_TOKENS).texts_of_layers(texts))
        aside = path.with_name(f".{path.name}")
        np.save(aside, made)
        aside.replace(path)
    return list(np.load(path))


def _score(places: Any, is_wrong: Any) -> Found:  # Any: arrays
    hits = int(is_wrong[places].sum())
    return Found(hits / max(1, len(places)), hits / int(is_wrong.sum()))


def _spread(name: str, values: Sequence[float], target: Target | None, note: str, unit: str = "") -> Figure:
    return Figure(name, mean(values), unit, min(values), max(values), target, note)


def _near(folder: Path) -> Iterator[Figure]:
    """Copies with a typo, among rows of Banking77 that are no copies of them."""
    chance = random.Random(1)
    rows = _rows(folder, "banking77", "train.csv", (None, None))
    texts = [row.texts[0] for row in rows][: NEAR_ROWS - NEAR_COPIES]
    originals = chance.sample(range(len(texts)), NEAR_COPIES)
    planted = [edit(texts[at], chance) for at in originals]
    start, wall = time.process_time(), time.perf_counter()
    found = near_rows([[text] for text in (*texts, *planted)])
    spent, lasted = time.process_time() - start, time.perf_counter() - wall
    hits = sum(any(at == other for other, _ in found.before[len(texts) + i]) for i, at in enumerate(originals))
    note = f"{NEAR_COPIES} rows with a typo in {NEAR_ROWS:,}"
    yield Figure("near duplicates found", hits / NEAR_COPIES, target=Target(FOUND_NEAR), note=note)
    yield Figure("near duplicates: processor time", spent, "s", target=Target(NEAR_S, at_most=True))
    load = f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores"
    yield Figure("near duplicates: time by the clock", lasted, "s", note=load)


def _leaks(folder: Path) -> Figure:
    """Test rows of SST-2 that are among the training rows with a typo."""
    chance = random.Random(1)
    place = data.need(folder, "sst2")
    train = _rows(folder, "sst2", "train.tsv", (None, None))
    test = _rows(place.parent, "sst2", "test.tsv", (None, None))
    leaked = [LabelRow({"text": edit(row.texts[0], chance)}, row.labels, "", 0) for row in chance.sample(test, LEAKED)]
    stored = [StoredRow(f"train{i}", row) for i, row in enumerate((*train, *leaked))]
    subject = Subject("classify", {"train": stored, "test": [StoredRow(f"test{i}", row) for i, row in enumerate(test)]})
    ids = {id for one in leaks.find(subject) for id in one.row_ids}
    hits = sum(f"train{len(train) + i}" in ids for i in range(LEAKED))
    note = f"{LEAKED} test rows with a typo among {len(train):,} training rows"
    return Figure("leaked test rows found", hits / LEAKED, target=Target(FOUND_NEAR), note=note)
