"""Calibration and abstention of real fine-tunes: calibration error, kept promises, and rows that are out of scope."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import data
from bench.box import Box, until
from bench.record import Figure, Record, Target
from bench.stop import Stop
from llmos.abi.json_type import Json
from llmos.abi.wire import from_json

ERROR = 0.02
ABSTAIN = 0.05
LEFT_OUT = 15  # intents of Banking77 that a model does not learn: rows out of scope, in its own domain
FAR_ROWS = 500  # of each of two other sets
NEAR, FAR = "near", "far"  # rows out of scope: of the same domain, of others
OUT_OF_SCOPE = "oos"
SEED = 7

Rows = list[tuple[str, str]]  # text and label


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows to train on, and how often; None: all rows, and the epochs that `llmos train` chooses."""

    train: int | None
    epochs: float | None


@dataclass(frozen=True, slots=True)
class Set:
    """One data set, and what of it is learned in each mode."""

    name: str
    folder: str
    quick: Size | None
    full: Size = Size(None, None)
    has_scope: bool = False  # some of its labels are left out, as rows out of scope

    def size(self, mode: str) -> Size | None:
        return self.full if mode == "full" else self.quick


SETS = (
    Set("sst2", "sst2", Size(1_500, 2.0)),
    Set("agnews", "agnews", Size(1_500, 2.0)),
    Set("banking", "banking77", None),
    Set("banking-scope", "banking77", Size(1_200, 3.0), has_scope=True),
)
VALIDATION, AG_TEST = 1_000, 4_000


def measure(folder: Path, home: Path, *, mode: str, seeds: int = 1) -> Record:
    """Train each set's model, unless this home has it, and measure its calibration on all test rows.

    Quick: fewer rows and epochs, and Banking77 only without the intents that are out of scope. `seeds`: so many times,
    with other rows and other weights of the head.
    """
    figures: list[Figure] = []
    with Box(home) as box:
        box.base()
        for one in SETS:
            if (size := one.size(mode)) is not None:
                for seed in range(SEED, SEED + seeds):
                    figures += _measure_set(box, folder, one, size, seed)
        dtype = box.device()["dtype"]
    settings = {"base": "minilm", "method": "full", "dtype": dtype, "abstain": ABSTAIN, "seeds": seeds}
    return Record("calibration", mode, settings, tuple(figures))


def _measure_set(box: Box, folder: Path, one: Set, size: Size, seed: int) -> Iterator[Figure]:
    name = f"{one.name}-{size.train or 'all'}-{seed}"
    place = box.home / "cuts" / name
    parts = {part: write(place / f"{part}.csv", rows) for part, rows in split(folder, one, size, seed).items()}
    if not any(model["name"] == name for model in box.ask("GET", "/v1/models")["data"]):
        rows = {part: str(parts[part]) for part in ("train", "validation", "test")}
        recipe = {"task": "classify", "name": name, "base": "minilm", "method": "full", "data": rows, "seed": seed}
        recipe |= {"options": {"abstain": ABSTAIN}, "learning_curve": False, "epochs": size.epochs}
        _run(box, "train", recipe, f"the training of {name}")
    model = box.ask("GET", f"/v1/models/{name}:1")
    title = f"{one.name}, seed {seed}"
    yield from _error_figures(title, model)
    yield from _promise_figures(title, model["evidence"]["calibration"])
    for kind in (NEAR, FAR):
        if kind in parts:
            yield from _scope_figures(box, title, model["ref"], kind, parts[kind])


def _error_figures(name: str, model: Json) -> Iterator[Figure]:
    """The calibration error on test rows, and what a perfectly calibrated model would show on as many."""
    found = model["evidence"]["calibration"]
    before, after = found["before"], found["after"]
    note = f"accuracy {model['metrics']['accuracy']:.3f}, {model['evidence']['rows']['train']:,} training rows"
    yield Figure(f"{name}: ECE without calibration", before["error"], note=f"{note}, loss {before['loss']:.4f}")
    refused = found["refused_temperature"]
    how = f"temperature {found['temperature']:.3f}" if refused is None else f"temperature {refused:.3f} refused"
    if found["biases"]:
        how += f" and biases, accuracy {before['accuracy']:.4f} before and {after['accuracy']:.4f} after"
    note = f"{how}, loss {after['loss']:.4f}; by chance alone {after['by_chance']:.4f}, limit {after['limit']:.4f}"
    yield Figure(f"{name}: ECE as served", after["error"], target=Target(ERROR, at_most=True), note=note)
    yield Figure(f"{name}: ECE as served, debiased", after["debiased"], note=f"{after['decisions']:,} test rows")


def _promise_figures(name: str, found: Json) -> Iterator[Figure]:
    """Shares of wrong answers, and whether their exact intervals contradict what was promised."""
    abstain = found.get("abstain") or {"risks": [], "why_not": ""}
    for one in abstain["risks"]:
        note = f"{one['wrong']:,} wrong of {one['answered']:,} answers to {one['rows']:,} rows"
        yield _share(f"{name}: wrong answers, {one['promised']:g} promised", one["share"], one["interval"], note)
    if abstain["why_not"]:
        yield Figure(f"{name}: wrong answers, {ABSTAIN:g} promised", float("nan"), note=abstain["why_not"])
    for one in found["sets"]:
        note = f"sets of {one['mean_size']:.2f} labels on average"
        title = f"{name}: sets with the true label, {one['promised']:g} promised"
        yield _share(title, one["covered"], one["interval"], note)
    broken = [one["promised"] for one in (*abstain["risks"], *found["sets"]) if not one["kept"]]
    said = ", ".join(f"{one:g}" for one in broken) or f"all of {len(abstain['risks']) + len(found['sets'])} hold"
    yield Figure(f"{name}: promises contradicted", len(broken), target=Target(0, at_most=True), note=said)


def _scope_figures(box: Box, name: str, ref: str, kind: str, rows: Path) -> Iterator[Figure]:
    """How well rows of labels that were not learned are told from test rows, by the surety of the answers alone."""
    args = {"model": ref, "data": {"train": str(rows)}, "options": {"oos_label": OUT_OF_SCOPE}}
    pid = _run(box, "evaluate", args, f"the evaluation of {ref} on rows out of scope")["pid"]
    evidence = from_json((box.home / "evaluations" / str(pid) / "evidence.json").read_bytes(), dict)
    found = evidence["calibration"]["out_of_scope"]
    note = f"{found['rows']:,} rows out of scope, {kind}; {found['in_scope']:,} in scope"
    yield Figure(f"{name}, {kind}: AUROC", found["auroc"], note=note)
    note = f"where {found['kept_in_scope']:.1%} of the rows in scope are kept"
    yield _share(f"{name}, {kind}: found", found["recall"], found["interval"], note)
    for one in found["withheld"]:
        yield Figure(f"{name}, {kind}: withheld, {one['promised']:g} wrong promised", one["share"])


def _share(name: str, value: float, interval: tuple[float, float], note: str) -> Figure:
    """A share with its exact 95 % interval."""
    return Figure(name, value, low=interval[0], high=interval[1], note=note)


def split(folder: Path, one: Set, size: Size, seed: int) -> dict[str, Rows]:
    """Rows to train on, validate and test; those out of scope, each after all test rows, where the set has them."""
    drawn = random.Random(seed)
    if one.folder == "sst2":
        place = data.need(folder, "sst2")
        train, validation, test = (_sst(place / f"{part}.tsv") for part in ("train", "dev", "test"))
        drawn.shuffle(train)
    elif one.folder == "agnews":
        rows = _agnews(folder)
        drawn.shuffle(rows)
        cuts = (AG_TEST, AG_TEST + VALIDATION)
        test, validation, train = rows[: cuts[0]], rows[cuts[0] : cuts[1]], rows[cuts[1] :]
    else:
        place = data.need(folder, "banking77")
        rows, test = (_banking(place / f"{part}.csv") for part in ("train", "test"))
        drawn.shuffle(rows)
        validation, train = rows[:VALIDATION], rows[VALIDATION:]
    parts = {"train": train, "validation": validation, "test": test}
    if one.has_scope:
        left_out = set(random.Random(seed).sample(sorted({label for _, label in test}), LEFT_OUT))
        near = [(text, OUT_OF_SCOPE) for text, label in test if label in left_out]
        parts = {part: [row for row in rows if row[1] not in left_out] for part, rows in parts.items()}
        parts |= {NEAR: parts["test"] + near, FAR: parts["test"] + _far(folder, drawn)}
    return {**parts, "train": parts["train"][: size.train]}


def _far(folder: Path, drawn: random.Random) -> Rows:
    """Rows of other sets, which have nothing to do with banks."""
    others = [_agnews(folder), _sst(data.need(folder, "sst2") / "test.tsv")]
    return [(text, OUT_OF_SCOPE) for rows in others for text, _ in drawn.sample(rows, FAR_ROWS)]


def _sst(path: Path) -> Rows:
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return [(text, ("negative", "positive")[int(label)]) for text, label in rows]


def _agnews(folder: Path) -> Rows:
    place = data.need(folder, "agnews")
    names = (place / "classes.txt").read_text().split()
    with (place / "test.csv").open(newline="", encoding="utf-8") as file:
        return [(f"{title}. {text}", names[int(label) - 1]) for label, title, text in csv.reader(file)]


def _banking(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def write(path: Path, rows: Rows) -> Path:
    """The rows as CSV with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def _run(box: Box, program: str, args: Json, what: str) -> Json:
    """The process once it has ended well; Stop, with its reason, where it has not."""
    pid = box.ask("POST", "/v1/processes", {"program": program, "args": args, "priority": "batch"})["pid"]
    ended = until(partial(box.process_if_ended, pid), what, every_s=1.0, within_s=4 * 3600.0)
    if ended["exit_code"] != 0:
        raise Stop(f"Failed: {what}: {ended['reason']}")
    return ended
