"""Few labels: models by a few labelled rows alone, and with the rest without labels; plain fine-tuning beside.

The labelled rows are drawn by the seed, as many of every label. All runs go through the daemon, by the defaults of
`llmos train`; the plain one by `--method full`, and without what is for few labels. Three more ways are measured if
named: all by `--method full` (unlabelled-full), the other rows with changed copies (views), and R-Drop on what is
learned of them. Finished runs are kept in the bench's home: a bench that was stopped goes on, in the run that it had
begun as well.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bench import data
from bench.box import Box
from bench.kept_runs import Asking, kept, measured, run, version_of
from bench.many_labels import FILE, FOLDER, NAME, measure_many
from bench.public_sets import PublicSet, chosen_sets, read_set, text_of, write_rows
from bench.record import Figure, Record, Target, revision
from bench.stop import Stop
from llmos.abi.json_type import Json

SEEDS = {"quick": (1,), "full": (1, 2, 3)}


@dataclass(frozen=True, slots=True)
class FewSet(PublicSet):
    """A data set, how many rows keep their labels, and the figure that a model by them must reach."""

    wanted: float
    each: int = 0  # rows of every label
    share: float = 0.0  # of all rows, where each is 0


SETS = (
    FewSet("banking77", "classify", "train.csv", "test.csv", 0.80, each=5),
    FewSet("sst2", "classify", "train.tsv", "test.tsv", 0.82, each=50),
    FewSet("agnews", "classify", "test.csv", None, 0.80, each=8, columns=("1,2", "0")),
    FewSet("conll2003", "tag", "eng.train", "eng.testb", 0.75, share=0.02),
)
MANY = PublicSet(NAME, "classify", FILE, None)
PLAIN, FEW, UNLABELLED = "plain", "few", "unlabelled"  # fine-tuned; by the defaults; with the other rows as well
WAYS = (UNLABELLED, FEW, PLAIN)
BY_FULL, VIEWS, R_DROP = "unlabelled-full", "views", "r-drop"
BY_REST: dict[str, dict[str, Json]] = {
    UNLABELLED: {},
    BY_FULL: {"method": "full"},
    VIEWS: {"views": 1.0},
    R_DROP: {"consistency": 1.0},
}
BY_FEW: dict[str, dict[str, Json]] = {
    FEW: {},
    PLAIN: {"method": "full", "contrastive": False, "learn_validation": False},
}
LABELS_ALONE = (R_DROP,)  # not for tags


@dataclass(frozen=True, slots=True)
class Files:
    """The rows with labels, those without, and those that are measured on."""

    few: Path
    rest: Path
    test: Path


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave on the test rows, with its 95 % interval, and the processor time that it took."""

    value: float
    low: float
    high: float
    cpu_s: float
    learned: str  # what the evidence says of the rows without labels
    revision: str


def measure(
    folder: Path,
    home: Path,
    *,
    mode: str,
    names: str | None = None,
    seeds: Sequence[int] | None = None,
    ways: str | None = None,
) -> Record:
    """Every set by all ways and every seed; `names` are the sets and `ways` the ways, by commas."""
    chosen, by, kept_at = tuple(seeds or SEEDS[mode]), chosen_ways(ways), home / "few-labels"
    sets = chosen_sets(names, (*SETS, MANY))
    figures: list[Figure] = []
    with Box(home) as box:
        box.base()
        for one in sets:
            if isinstance(one, FewSet):
                figures += measure_set(data.need(folder, one.name), kept_at, box, one, chosen, by)
            else:
                figures += measure_many(data.need(folder, FOLDER), kept_at, box, chosen)
    settings = {"base": "minilm", "seeds": chosen, "sets": [one.name for one in sets]}
    return Record("few-labels", mode, settings, tuple(figures))


def measure_set(
    source: Path, kept_at: Path, box: Asking, one: FewSet, seeds: Sequence[int], ways: Sequence[str] = WAYS
) -> list[Figure]:
    """All ways by every seed, from the files in this folder."""
    found: dict[str, list[Result]] = {way: [] for way in ways if one.task != "tag" or way not in LABELS_ALONE}
    for seed in seeds:
        files = write_files(source, kept_at / f"{one.name}-{seed}", one, seed)
        for way, results in found.items():
            results.append(_result(kept_at, box, one, files, way, seed))
    return [_figure(one, way, seeds, results) for way, results in found.items()]


def chosen_ways(names: str | None) -> tuple[str, ...]:
    """The ways of these names, by commas; Stop for one that there is not."""
    known = (*BY_REST, *BY_FEW)
    asked = WAYS if names is None else tuple(dict.fromkeys(filter(None, map(str.strip, names.split(",")))))
    if not asked or not set(known) >= set(asked):
        raise Stop(f"--ways is {names!r}. The ways are: {', '.join(known)}")
    return asked


def draw(rows: Sequence[Any], one: FewSet, seed: int) -> tuple[list[Any], list[Any]]:  # Any: rows of the task's family
    """The rows that keep their labels, and the others; a text stands in one of them alone."""
    order = random.Random(f"{seed} few").sample(range(len(rows)), len(rows))
    few: list[Any] = []
    counts: dict[str, int] = {}
    most = len(rows) if one.each else round(one.share * len(rows))
    for i in order:
        label = "" if not one.each else rows[i].labels[0]
        if counts.get(label, 0) < (one.each or most):
            counts[label] = counts.get(label, 0) + 1
            few.append(rows[i])
    taken = {text_of(row) for row in few}
    return few, [row for row in rows if text_of(row) not in taken]


def write_files(source: Path, out: Path, one: FewSet, seed: int) -> Files:
    """The files of a seed, written once."""
    rows, test = read_set(source, one)
    few, rest = draw(rows, one, seed)
    files = Files(*(out / f"{part}.{one.ending}" for part in ("few", "rest", "test")))
    for path, some, is_labelled in ((files.few, few, True), (files.rest, rest, False), (files.test, test, True)):
        write_rows(path, some, is_labelled=is_labelled)
    return files


def _result(kept_at: Path, box: Asking, one: FewSet, files: Files, way: str, seed: int) -> Result:
    """The kept result of this run, or that of the run itself."""
    recipe = _recipe(one, files, way, seed)
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode() + files.few.read_bytes()).hexdigest()[:8]

    def train() -> Result:
        process, _ = run(box, "train", recipe, priority="interactive")  # nothing is served meanwhile
        version = version_of(box, process)
        on_test = measured(version, one.metric)
        learned = str(version["evidence"].get("self_training", {}).get("summary", ""))
        cpu_s = process["usage"]["cpu_s"]
        print(f"{one.name}, seed {seed}, {way}: {on_test.value:.4f}, {cpu_s:,.0f} s", flush=True)
        return Result(on_test.value, on_test.low, on_test.high, cpu_s, learned, revision())

    return kept(kept_at / f"{one.name}-{seed}-{way}-{digest}.json", Result, train)


def _recipe(one: FewSet, files: Files, way: str, seed: int) -> dict[str, Json]:
    rows: dict[str, Json] = {"train": str(files.few), "test": str(files.test)}
    if way in BY_REST:
        rows["unlabelled"] = str(files.rest)
    return {
        "task": one.task,
        "name": f"few-{one.name}-{way}-{seed}",
        "base": "minilm:1",
        "data": rows,
        "seed": seed,
        "learning_curve": False,
        **(BY_REST | BY_FEW)[way],
    }


def _figure(one: FewSet, way: str, seeds: Sequence[int], found: Sequence[Result]) -> Figure:
    values = [result.value for result in found]
    parts = [f"seeds {', '.join(map(str, seeds))}: {', '.join(f'{value:.4f}' for value in values)}"]
    if len(values) > 1:
        parts.append(f"spread {stdev(values):.4f}")
    parts.append(f"{mean(result.cpu_s for result in found):,.0f} s of processor time each")
    parts.append(f"revision {', '.join(dict.fromkeys(result.revision for result in found))}")
    target = Target(one.wanted) if way in BY_REST else None
    rows = f"{one.each} rows a label" if one.each else f"{one.share:.0%} of the rows"
    title = f"{one.name}, {rows}, {way}: {one.metric}"
    return Figure(title, mean(values), "", min(values), max(values), target, "; ".join(parts))
