"""Labels from an oracle: how many a head on frozen vectors needs, chosen by each strategy, to be as good as with all.

An oracle gives the true label of each row that is asked. Accuracies are of a head, not of a fine-tuned model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import data
from bench.box import Box
from bench.engine import base_path
from bench.record import Figure, Record, Target
from llmos.abi.labelling import STRATEGIES
from llmos.abi.recipe import Data
from llmos.data.labelling.acquisition import choose_rows
from llmos.data.reader import read_rows
from llmos.evaluation.linear_head import fit
from llmos.nn.frozen_vectors import FrozenEncoder

SETS = ("banking77",)
LESS = 0.02  # of the accuracy with all labels, that may be missing
SHARE = 0.4  # of the labels that may be needed
FIRST, BATCH = 0.02, 0.04  # of all rows: before the first choice, and between two
QUICK_ROWS = 3_000
PENALTY = 1.0

Floats = NDArray[Any]  # Any: float32
Numbers = NDArray[Any]  # Any: label numbers


@dataclass(frozen=True, slots=True, eq=False)
class OracleSet:
    """Vectors and labels of rows that an oracle knows, and of test rows."""

    vectors: Floats
    labels: Numbers
    test_vectors: Floats
    test_labels: Numbers

    @property
    def count(self) -> int:
        return int(max(self.labels.max(), self.test_labels.max())) + 1


def measure(folder: Path, home: Path, *, mode: str, seeds: int = 1) -> Record:
    """Every strategy from the same first rows; quick: some of the rows and one seed."""
    with Box(home) as box:
        encoder = FrozenEncoder(base_path(box.base()))
    figures: list[Figure] = []
    for name in SETS:
        one = _read(data.need(folder, name), encoder, None if mode == "full" else QUICK_ROWS)
        whole = _accuracy(one, np.arange(len(one.labels)))
        figures.append(Figure(f"{name}: accuracy with all labels", whole, note=f"{len(one.labels):,} rows"))
        for strategy in STRATEGIES:
            shares = [needed(one, strategy, seed, whole - LESS) for seed in range(1, seeds + 1)]
            target = Target(SHARE, at_most=True) if strategy != "random" else None
            title = f"{name}: share of the labels for {LESS:g} less, {strategy}"
            note = f"{seeds} seeds" if seeds > 1 else ""
            figures.append(Figure(title, float(np.median(shares)), "", min(shares), max(shares), target, note))
    settings = {"base": "minilm", "head": "linear, on frozen vectors", "first": FIRST, "batch": BATCH, "seeds": seeds}
    return Record("learning", mode, settings, tuple(figures))


def needed(one: OracleSet, strategy: str, seed: int, wanted: float) -> float:
    """The share of the labels with which a head has the wanted accuracy; 1 if it needs all of them."""
    rows = len(one.labels)
    batch = max(1, round(BATCH * rows))
    known = choose_rows("badge" if strategy != "random" else "random", one.vectors, None, round(FIRST * rows), seed)
    while len(known) < rows:
        if _accuracy(one, known) >= wanted:
            return len(known) / rows
        left = np.setdiff1d(np.arange(rows), known)
        head = fit(one.vectors[known], one.labels[known], classes=one.count, l2=PENALTY)
        found = head.probabilities(one.vectors[left])
        known = np.concatenate([known, left[choose_rows(strategy, one.vectors[left], found, batch, seed)]])
    return 1.0


def _accuracy(one: OracleSet, known: Numbers) -> float:
    head = fit(one.vectors[known], one.labels[known], classes=one.count, l2=PENALTY)
    return float((head.logits(one.test_vectors).argmax(axis=1) == one.test_labels).mean())


def _read(folder: Path, encoder: FrozenEncoder, most: int | None) -> OracleSet:
    train, test = (_rows(folder / f"{part}.csv") for part in ("train", "test"))
    if most is not None:
        order = np.random.default_rng(0).permutation(len(train))[:most]
        train = [train[i] for i in order]
    names = sorted({label for _, label in (*train, *test)})
    index = {name: i for i, name in enumerate(names)}

    def vectors(rows: Sequence[tuple[str, str]]) -> Floats:
        return encoder.texts([text for text, _ in rows])

    def numbers(rows: Sequence[tuple[str, str]]) -> Numbers:
        return np.array([index[label] for _, label in rows])

    return OracleSet(vectors(train), numbers(train), vectors(test), numbers(test))


def _rows(path: Path) -> list[tuple[str, str]]:
    return [(row.input["text"], row.labels[0]) for row in read_rows(str(path), Data(""), "classify", {}).rows]
