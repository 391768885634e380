"""Methods of training beside each other: the same rows, the defaults of `llmos train`, the same test rows.

It is the evidence for `--method auto`. Finished trainings are kept in the bench's home, and a bench that was stopped
goes on with the next.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from bench.augmentation import TenthSet, chosen_sets, tenth, train
from bench.box import Box
from bench.engine import base_path
from bench.record import Figure, Record
from bench.stop import Stop
from llmos.abi.frame import ModelPath
from llmos.abi.method import method_names

METHODS = ("full", "lora", "rslora", "head")
ROWS = {"quick": (200, 1000), "full": (200, 1000, 4000)}
SEEDS = {"quick": (1,), "full": (1, 2, 3)}
TRIED = ("banking77", "conll2003", "sst2", "agnews")


def measure(
    folder: Path,
    home: Path,
    *,
    mode: str,
    names: str | None = None,
    seeds: int | None = None,
    methods: str | None = None,
    rows: int | None = None,
) -> Record:
    """The primary metric of each method, by set and number of labelled rows (a tenth of which is for validation)."""
    sets, tried = chosen_sets(names or ",".join(TRIED)), chosen_methods(methods)
    with Box(home) as box:
        base, dtype = base_path(box.base()), box.device(None)["dtype"]
    kept = home / "methods"
    kept.mkdir(parents=True, exist_ok=True)
    chosen = SEEDS[mode] if seeds is None else tuple(range(1, seeds + 1))
    figures = [
        figure
        for count in (ROWS[mode] if rows is None else (rows,))
        for one in sets
        for figure in _compared(folder, kept, base, one, count, tried, chosen, dtype)
    ]
    settings = {"base": "minilm", "dtype": dtype, "seeds": chosen, "sets": [one.name for one in sets]}
    return Record("methods", mode, settings, tuple(figures))


def chosen_methods(names: str | None) -> tuple[str, ...]:
    """The methods of these names, by commas; Stop for one that there is not."""
    if names is None:
        return METHODS
    asked = tuple(dict.fromkeys(filter(None, map(str.strip, names.split(",")))))
    if not asked or not set(asked) <= set(method_names()):
        raise Stop(f"--methods is {names!r}. The methods are: {', '.join(method_names())}")
    return asked


def _compared(
    folder: Path,
    kept: Path,
    base: ModelPath,
    one: TenthSet,
    rows: int,
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    dtype: str,
) -> Iterator[Figure]:
    for method in methods:
        found = [_result(folder, kept, base, one, rows, method, seed, dtype) for seed in seeds]
        values, seconds = [result["value"] for result in found], mean(result["processor_s"] for result in found)
        spread = f", spread {stdev(values):.4f} of {len(found)} seeds" if len(found) > 1 else ""
        note = f"{seconds:,.0f} s of processor time, with the test rows{spread}"
        yield Figure(f"{one.name}, {rows:,} rows, {method}", mean(values), "", note=note)


def _result(
    folder: Path, kept: Path, base: ModelPath, one: TenthSet, rows: int, method: str, seed: int, dtype: str
) -> dict[str, float]:
    """The metric of one training (`value`) and what it took (`processor_s`)."""
    told = json.dumps([one.name, rows, method, seed, dtype])
    file = kept / f"{one.name}-{rows}-{method}-{seed}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.json"
    if not file.exists():
        splits, began = tenth(folder, one, seed, rows), processor_s()
        sample = train(base, one, splits, (), seed, method=method, dtype=dtype)
        metric = "f1" if one.task == "tag" else "accuracy"
        value = float(sample.values(np.ones((1, sample.units)))[metric][0])
        took = processor_s() - began
        file.write_text(json.dumps({"value": value, "processor_s": took}))
        print(f"{one.name}, {rows:,} rows, {method}, seed {seed}: {value:.4f}, {took:,.0f} s", flush=True)
    return dict(json.loads(file.read_text()))


def processor_s() -> float:
    """The processor time of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
