"""A search of 24 trials by `llmos tune`, its seconds by the clock, and what the winner reaches on the test rows; beside
it `llmos train` by its defaults, on the same rows.

Both go through the daemon, with nothing set but the seed. What is finished is kept in the bench's home: a bench that
was stopped goes on, in the search that it had begun as well. The training comes second and has the search's name, so
that its evidence compares the two on the same test rows.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from bench import data
from bench.box import Box
from bench.kept_runs import Asking, RunClock, kept, measured, run
from bench.public_sets import SETS, PublicSet, chosen_sets, read_set, write_rows
from bench.record import Figure, Record, Target, revision
from llmos.abi.json_type import Json

BUDGET = "24 trials"
QUICK_ROWS = 1_000  # of training
SEEDS = (1,)
WITHIN = 0.01  # of the tuned model's metric, that the defaults may miss
MOST_S = {"sst2": 15 * 60.0}  # of a search on all rows


@dataclass(frozen=True, slots=True)
class Files:
    """The rows to train on, a part of which validates, and those to measure on."""

    train: Path
    test: Path
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A version's metric on the test rows with its 95 % interval, what it took, and what it is.

    `less` is what it lacks to the version of its name before it, on the same rows, with its interval; NaN without one.
    """

    value: float
    low: float
    high: float
    seconds: float  # by the clock
    cpu_s: float  # of the search and its trials
    what: str
    revision: str
    less: float = float("nan")
    least: float = float("nan")
    most: float = float("nan")


def measure(
    folder: Path,
    home: Path,
    *,
    mode: str,
    names: str | None = None,
    seeds: Sequence[int] | None = None,
    count: int | None = None,
) -> Record:
    """Every set and seed; `names` are the sets, by commas, `count` the rows of training that are taken."""
    sets, chosen = chosen_sets(names, SETS), tuple(seeds or SEEDS)
    most = count or (None if mode == "full" else QUICK_ROWS)
    figures: list[Figure] = []
    with Box(home) as box:
        box.base()
        for one in sets:
            figures += measure_set(data.need(folder, one.name), home / "tune", box, one, chosen, most)
    settings = {"base": "minilm", "budget": BUDGET, "seeds": chosen, "sets": [one.name for one in sets], "rows": most}
    return Record("tune", "cut" if count else mode, settings, tuple(figures))


def measure_set(
    source: Path, home: Path, box: Asking, one: PublicSet, seeds: Sequence[int], most: int | None
) -> list[Figure]:
    """A search and a training by every seed, on so many of the set's rows, or all."""
    found = [_outcomes(home, box, one, _files(source, home, one, seed, most), seed) for seed in seeds]
    tuned, default = [pair[0] for pair in found], [pair[1] for pair in found]
    return [
        *_metrics(one, "tuned", tuned, seeds),
        *_metrics(one, "default", default, seeds),
        *_differences(one, tuned, default),
        _seconds(one, "the search", tuned, None if most else MOST_S.get(one.name)),
        _seconds(one, "the training by defaults", default, None),
    ]


def _files(source: Path, home: Path, one: PublicSet, seed: int, most: int | None) -> Files:
    """So many rows of training, drawn by the seed, and all that test; written once."""
    train, test = read_set(source, one)
    if most is not None and most < len(train):
        train = random.Random(f"{seed} tune").sample(train, most)
    out = home / f"{one.name}-{seed}-{len(train)}"
    paths = out / f"train.{one.ending}", out / f"test.{one.ending}"
    for path, rows in zip(paths, (train, test), strict=True):
        write_rows(path, rows)
    seen = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:8]
    return Files(*paths, len(train), seen)


def _outcomes(home: Path, box: Asking, one: PublicSet, files: Files, seed: int) -> tuple[Outcome, Outcome]:
    """The winner of the search, and the version that the defaults give."""
    recipe: dict[str, Json] = {
        "task": one.task,
        "name": f"tune-{one.name}-{seed}-{files.digest}",
        "base": "minilm:1",
        "data": {"train": str(files.train), "test": str(files.test)},
        "seed": seed,
    }
    place = home / f"{one.name}-{seed}-{files.rows}-{files.digest}"

    def search() -> Outcome:
        args = {**recipe, "budget": BUDGET}
        process, clock = run(box, "tune", args, priority="interactive", clock=_beside(place, "search-clock"))
        board = box.ask("GET", f"/v1/processes/{process['pid']}/result")
        winner = next(row for row in board["trials"] if row["number"] == board["winner"])
        which = "the defaults" if winner["is_default"] else _describe(winner["settings"])
        return _outcome(box, one, board["made"], clock, f"trial {winner['number']}: {which}")

    def train() -> Outcome:
        process, clock = run(box, "train", recipe, priority="interactive", clock=_beside(place, "default-clock"))
        ref = next(ref for ref in process["made"] if ":" in ref)
        return _outcome(box, one, ref, clock, "defaults")

    return kept(_beside(place, "tuned"), Outcome, search), kept(_beside(place, "default"), Outcome, train)


def _beside(place: Path, what: str) -> Path:
    return place.with_name(f"{place.name}-{what}.json")


def _outcome(box: Asking, one: PublicSet, ref: str, clock: RunClock, what: str) -> Outcome:
    version = box.ask("GET", f"/v1/models/{ref}")
    found = measured(version, one.metric)
    said = f"{what} ({version['lineage']['recipe']['method']})"
    took = f"{clock.seconds:,.0f} s, {clock.all_cpu_s:,.0f} s of processor time"
    print(f"{ref}: {found.value:.4f}, {said}, {took}", flush=True)
    taken = clock.seconds, clock.all_cpu_s, said, revision()
    compared = version["evidence"].get("compared") or {}
    if compared.get("difference") is None:
        return Outcome(found.value, found.low, found.high, *taken)
    less = -compared["difference"], -compared["high"], -compared["low"]
    return Outcome(found.value, found.low, found.high, *taken, *less)


def _describe(settings: dict[str, Json]) -> str:
    values = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in settings.items()}
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _metrics(one: PublicSet, which: str, found: Sequence[Outcome], seeds: Sequence[int]) -> list[Figure]:
    """A figure for each seed: the interval is that of its test rows."""
    return [
        Figure(
            f"{one.name}, seed {seed}, {which}: {one.metric}",
            each.value,
            "",
            each.low,
            each.high,
            note=f"{each.what}; revision {each.revision}",
        )
        for seed, each in zip(seeds, found, strict=True)
    ]


def _differences(one: PublicSet, tuned: Sequence[Outcome], default: Sequence[Outcome]) -> list[Figure]:
    """What the search has gained, in the mean of the seeds: held to be no loss, and to be little."""
    gains = [first.value - second.value for first, second in zip(tuned, default, strict=True)]
    pairs = [f"{each.less:+.4f} ({each.least:+.4f} to {each.most:+.4f})" for each in default if each.less == each.less]
    note = f"on the same test rows: {', '.join(pairs)}" if pairs else ""
    title = f"{one.name}: {one.metric} tuned less default"
    ends = min(gains), max(gains)
    return [
        Figure(f"{title}, no loss", mean(gains), "", *ends, Target(0.0), note),
        Figure(f"{title}, within a point", mean(gains), "", *ends, Target(WITHIN, at_most=True), note),
    ]


def _seconds(one: PublicSet, what: str, found: Sequence[Outcome], most: float | None) -> Figure:
    seconds = [each.seconds for each in found]
    target = None if most is None else Target(most, at_most=True)
    note = f"{mean(each.cpu_s for each in found):,.0f} s of processor time"
    return Figure(f"{one.name}: {what}, by the clock", mean(seconds), "s", min(seconds), max(seconds), target, note)
