"""Few labels: models by a few labelled rows alone, and with the rest without labels; plain fine-tuning beside.

The labelled rows are drawn by the seed, as many of every label. All runs go through the daemon, by `--method full` and
else the defaults of `llmos train`; the plain one without those for few labels. Finished runs are kept in the bench's
home: a bench that was stopped goes on, in the run that it had begun as well.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Protocol

from bench import data
from bench.box import Box
from bench.record import Figure, Record, Target, revision
from bench.stop import Stop
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.reader import read_rows
from llmos.data.row import LabelRow, TagRow

SEEDS = {"quick": (1,), "full": (1, 2, 3)}
TEST_SEED = 0  # the test rows are the same for all seeds
POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class FewSet:
    """A data set, how many rows keep their labels, and the figure that a model by them must reach."""

    name: str
    task: str
    train: str
    test: str | None  # None: some rows of the first file
    wanted: float
    each: int = 0  # rows of every label
    share: float = 0.0  # of all rows, where each is 0
    columns: tuple[str | None, str | None] = (None, None)  # of text and label

    @property
    def metric(self) -> str:
        return "f1" if self.task == "tag" else "accuracy"


SETS = (
    FewSet("banking77", "classify", "train.csv", "test.csv", 0.80, each=5),
    FewSet("sst2", "classify", "train.tsv", "test.tsv", 0.82, each=50),
    FewSet("agnews", "classify", "test.csv", None, 0.80, each=8, columns=("1,2", "0")),
    FewSet("conll2003", "tag", "eng.train", "eng.testb", 0.75, share=0.02),
)
CUT_TEST = 3000  # test rows of a set without a test file
PLAIN, FEW, UNLABELLED = "plain", "few", "unlabelled"  # fine-tuned; by the defaults; with the other rows as well
WAYS = (UNLABELLED, FEW, PLAIN)


class Asking(Protocol):
    """A daemon, asked over HTTP."""

    def ask(self, method: str, path: str, body: Json = None) -> Json: ...


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
    folder: Path, home: Path, *, mode: str, names: str | None = None, seeds: Sequence[int] | None = None
) -> Record:
    """Every set by all ways and every seed; `names` are the sets, by commas."""
    sets, chosen = chosen_sets(names), tuple(seeds or SEEDS[mode])
    kept = home / "few-labels"
    figures: list[Figure] = []
    with Box(home) as box:
        box.base()
        for one in sets:
            figures += measure_set(data.need(folder, one.name), kept, box, one, chosen)
    settings = {"base": "minilm", "seeds": chosen, "sets": [one.name for one in sets]}
    return Record("few-labels", mode, settings, tuple(figures))


def measure_set(source: Path, kept: Path, box: Asking, one: FewSet, seeds: Sequence[int]) -> list[Figure]:
    """All ways by every seed, from the files in this folder."""
    found: dict[str, list[Result]] = {way: [] for way in WAYS}
    for seed in seeds:
        files = write_files(source, kept / f"{one.name}-{seed}", one, seed)
        for way in WAYS:
            found[way].append(_result(kept, box, one, files, way, seed))
    return [_figure(one, way, seeds, found[way]) for way in WAYS]


def chosen_sets(names: str | None) -> tuple[FewSet, ...]:
    """The sets of these names, by commas; Stop for one that there is not."""
    if names is None:
        return SETS
    known = {one.name: one for one in SETS}
    asked = list(dict.fromkeys(filter(None, map(str.strip, names.split(",")))))
    if not asked or not known.keys() >= set(asked):
        raise Stop(f"--sets is {names!r}. The sets are: {', '.join(known)}")
    return tuple(known[name] for name in asked)


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
    taken = {_text(row) for row in few}
    return few, [row for row in rows if _text(row) not in taken]


def write_files(source: Path, out: Path, one: FewSet, seed: int) -> Files:
    """The files of a seed, written once."""
    how = Data("", text=one.columns[0], label=one.columns[1])
    rows = list(read_rows(str(source / one.train), how, one.task, {}).rows)
    if one.test is None:
        random.Random(TEST_SEED).shuffle(rows)
        test, rows = rows[:CUT_TEST], rows[CUT_TEST:]
    else:
        test = list(read_rows(str(source / one.test), how, one.task, {}).rows)
    few, rest = draw(rows, one, seed)
    out.mkdir(parents=True, exist_ok=True)
    end = "conll" if one.task == "tag" else "jsonl"
    files = Files(*(out / f"{part}.{end}" for part in ("few", "rest", "test")))
    for path, some, is_labelled in ((files.few, few, True), (files.rest, rest, False), (files.test, test, True)):
        text = "".join(_lines(some, is_labelled=is_labelled))
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return files


def _lines(rows: Sequence[LabelRow] | Sequence[TagRow], *, is_labelled: bool) -> Iterator[str]:
    """The rows as lines of a file; those without labels have no trace of them."""
    for row in rows:
        if isinstance(row, TagRow):
            tags = row.tags if is_labelled else ("O",) * len(row.tags)
            yield "".join(f"{word} {tag}\n" for word, tag in zip(row.input["tokens"], tags, strict=True)) + "\n"
        else:
            plain = {"text": row.input["text"]} | ({"label": row.labels[0]} if is_labelled else {})
            yield json.dumps(plain, ensure_ascii=False) + "\n"


def _text(row: Any) -> str:  # Any: as above
    return "\n".join(row.texts)


def _result(kept: Path, box: Asking, one: FewSet, files: Files, way: str, seed: int) -> Result:
    """The kept result of this run, or that of the run itself."""
    recipe = _recipe(one, files, way, seed)
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode() + files.few.read_bytes()).hexdigest()[:8]
    file = kept / f"{one.name}-{seed}-{way}-{digest}.json"
    if not file.exists():
        found = _train(box, recipe, one.metric)
        file.write_text(json.dumps({name: getattr(found, name) for name in Result.__slots__}))
        print(f"{one.name}, seed {seed}, {way}: {found.value:.4f}, {found.cpu_s:,.0f} s", flush=True)
    return Result(**json.loads(file.read_text()))


def _recipe(one: FewSet, files: Files, way: str, seed: int) -> dict[str, Json]:
    rows: dict[str, Json] = {"train": str(files.few), "test": str(files.test)}
    if way == UNLABELLED:
        rows["unlabelled"] = str(files.rest)
    return {
        "task": one.task,
        "name": f"few-{one.name}-{way}-{seed}",
        "base": "minilm:1",
        "method": "full",
        "data": rows,
        "seed": seed,
        "learning_curve": False,
        **({"contrastive": False, "learn_validation": False} if way == PLAIN else {}),
    }


def _train(box: Asking, recipe: dict[str, Json], metric: str) -> Result:
    """The evidence of the version that this training makes; one that an earlier bench began goes on."""
    pid = _begun(box, recipe)
    if pid is None:
        body = {"program": "train", "args": recipe, "priority": "interactive"}  # nothing is served meanwhile
        pid = box.ask("POST", "/v1/processes", body)["pid"]
    while (process := box.ask("GET", f"/v1/processes/{pid}"))["state"] not in ("exited", "interrupted"):
        time.sleep(POLL_S)
    if process["exit_code"] != 0:
        raise Stop(f"{recipe['name']} failed: {process.get('reason') or process.get('fault')}")
    version = box.ask("GET", f"/v1/models/{next(ref for ref in process['made'] if ':' in ref)}")
    evidence = version["evidence"]
    bounds = evidence["intervals"][metric]
    learned = str(evidence.get("self_training", {}).get("summary", ""))
    low, high = bounds["low"], bounds["high"]
    return Result(evidence["metrics"][metric], low, high, process["usage"]["cpu_s"], learned, revision())


def _begun(box: Asking, recipe: dict[str, Json]) -> int | None:
    """The process of this name that an earlier bench left interrupted, resumed; None if there is none."""
    for process in box.ask("GET", "/v1/processes")["data"]:
        args = process["spec"]["args"]
        if process["state"] == "interrupted" and all(args.get(key) == value for key, value in recipe.items()):
            box.ask("POST", f"/v1/processes/{process['pid']}/resume")
            return int(process["pid"])
    return None


def _figure(one: FewSet, way: str, seeds: Sequence[int], found: Sequence[Result]) -> Figure:
    values = [result.value for result in found]
    parts = [f"seeds {', '.join(map(str, seeds))}: {', '.join(f'{value:.4f}' for value in values)}"]
    if len(values) > 1:
        parts.append(f"spread {stdev(values):.4f}")
    parts.append(f"{mean(result.cpu_s for result in found):,.0f} s of processor time each")
    parts.append(f"revision {', '.join(dict.fromkeys(result.revision for result in found))}")
    target = Target(one.wanted) if way == UNLABELLED else None
    rows = f"{one.each} rows a label" if one.each else f"{one.share:.0%} of the rows"
    title = f"{one.name}, {rows}, {way}: {one.metric}"
    return Figure(title, mean(values), "", min(values), max(values), target, "; ".join(parts))
