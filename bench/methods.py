"""Methods of training beside each other: the same rows, the defaults of `llmos train`, the same test rows.

It is the evidence for `--method auto`. Finished trainings are kept in the bench's home, and a bench that was stopped
goes on with the next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from bench.augmentation import TenthSet, chosen_sets, tenth, train
from bench.box import Box
from bench.engine import base_path
from bench.record import Figure, Record
from llmos.abi.frame import ModelPath

METHODS = ("full", "lora", "rslora", "head")
ROWS = {"quick": (200, 1000), "full": (200, 1000, 4000)}
SEEDS = {"quick": (1,), "full": (1, 2, 3)}
TRIED = ("banking77", "conll2003", "sst2", "agnews")


def measure(folder: Path, home: Path, *, mode: str, names: str | None = None, seeds: int | None = None) -> Record:
    """The primary metric of each method, by set and number of labelled rows (a tenth of which is for validation)."""
    sets = chosen_sets(names or ",".join(TRIED))
    with Box(home) as box:
        base, dtype = base_path(box.base()), box.device(None)["dtype"]
    kept = home / "methods"
    kept.mkdir(parents=True, exist_ok=True)
    chosen = SEEDS[mode] if seeds is None else tuple(range(1, seeds + 1))
    figures = [
        figure
        for rows in ROWS[mode]
        for one in sets
        for figure in _compared(folder, kept, base, one, rows, chosen, dtype)
    ]
    settings = {"base": "minilm", "dtype": dtype, "seeds": chosen, "sets": [one.name for one in sets]}
    return Record("methods", mode, settings, tuple(figures))


def _compared(
    folder: Path, kept: Path, base: ModelPath, one: TenthSet, rows: int, seeds: tuple[int, ...], dtype: str
) -> Iterator[Figure]:
    for method in METHODS:
        found = [_result(folder, kept, base, one, rows, method, seed, dtype) for seed in seeds]
        spread = stdev(found) if len(found) > 1 else 0.0
        yield Figure(
            f"{one.name}, {rows:,} rows, {method}", mean(found), "", note=f"spread {spread:.4f} of {len(found)} seeds"
        )


def _result(
    folder: Path, kept: Path, base: ModelPath, one: TenthSet, rows: int, method: str, seed: int, dtype: str
) -> float:
    told = json.dumps([one.name, rows, method, seed, dtype])
    file = kept / f"{one.name}-{rows}-{method}-{seed}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.json"
    if not file.exists():
        splits = tenth(folder, one, seed, rows)
        sample = train(base, one, splits, (), seed, method=method, dtype=dtype)
        metric = "f1" if one.task == "tag" else "accuracy"
        value = float(sample.values(np.ones((1, sample.units)))[metric][0])
        file.write_text(json.dumps(value))
        print(f"{one.name}, {rows:,} rows, {method}, seed {seed}: {value:.4f}", flush=True)
    return float(json.loads(file.read_text()))
