"""Asking for labels: an oracle answers what the queue asks, and the daemon trains meanwhile; random choice beside.

All goes over HTTP through the daemon, as from `llmos label`: queues, answers, and trainings in the background. The
oracle waits for a training that its answers have started: a person is slower than it. A model is trained at each
of a few growing shares of the labels, and measured on the test rows; one with all labels is what they are held against.
Results are kept in the bench's home: a bench that was stopped goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import data
from bench.box import Box
from bench.few_labels import SETS, FewSet, Files, write_files
from bench.kept_runs import Asking, kept, measured, version_of, wait
from bench.public_sets import chosen_sets
from bench.record import Figure, Record, Target, revision
from bench.stop import Stop
from llmos.abi.auto_method import AUTO
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.reader import read_rows

LESS = 0.02  # of the accuracy with all labels, that may be missing
SHARE = 0.4  # of the labels, with which it must be reached
FIRST = 0.01  # of the rows: labelled at random before the first question
SHARES = {"quick": (0.1, 0.2, 0.4), "full": (0.05, 0.1, 0.2, 0.3, 0.4)}
STRATEGIES = ("margin", "random")
BATCH = 250  # answers between two queues
SEEDS = {"quick": (1,), "full": (1, 2, 3)}
DEFAULT = "banking77"
POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class ByLabels:
    """A model by some of the labels: its accuracy on the test rows, with the 95 % interval, and what that took."""

    labels: int
    value: float
    low: float
    high: float
    cpu_s: float  # of its training
    method: str
    revision: str


@dataclass(frozen=True, slots=True)
class Oracle:
    """A set whose labels are known, the daemon that asks for them, and where results are kept."""

    box: Asking
    kept: Path
    one: FewSet
    seed: int
    method: str
    mode: str  # by which shares are looked at: those of one mode are kept apart from the other's
    files: Files
    answers: dict[str, str]  # text -> label
    rows: int

    @property
    def key(self) -> str:
        return f"oracle-{self.one.name}-{self.seed}-{self.method}-{self.mode}"


def measure(
    folder: Path,
    home: Path,
    *,
    mode: str,
    names: str | None = None,
    seeds: Sequence[int] | None = None,
    method: str = AUTO,
) -> Record:
    """Every set and seed: margin, all labels, then random; `names` are the sets, by commas."""
    chosen, sets = tuple(seeds or SEEDS[mode]), oracle_sets(names)
    figures: list[Figure] = []
    with Box(home) as box:
        box.base()
        for one in sets:
            for seed in chosen:
                kept = home / "label-oracle"
                oracle = open_oracle(data.need(folder, one.name), kept, box, one, seed, method=method, mode=mode)
                figures += measure_oracle(oracle, SHARES[mode])
    settings = {"base": "minilm", "method": method, "seeds": chosen, "shares": SHARES[mode], "batch": BATCH}
    return Record("label-oracle", mode, settings, tuple(figures))


def oracle_sets(names: str | None) -> tuple[FewSet, ...]:
    """The sets of these names, with some rows labelled at random; Stop for one that has not one label a text."""
    found = chosen_sets(DEFAULT if names is None else names, [one for one in SETS if one.task == "classify"])
    return tuple(
        FewSet(one.name, one.task, one.train, one.test, one.wanted, share=FIRST, columns=one.columns) for one in found
    )


def open_oracle(
    source: Path, kept: Path, box: Asking, one: FewSet, seed: int, *, method: str = AUTO, mode: str = "quick"
) -> Oracle:
    """The set's files by this seed, and what the oracle knows of its texts."""
    files = write_files(source, kept / f"{one.name}-{seed}", one, seed)
    how = Data("", text=one.columns[0], label=one.columns[1])
    rows = list(read_rows(str(source / one.train), how, one.task, {}).rows)
    answers: dict[str, str] = {}
    for row in rows:
        answers.setdefault(_plain(row.input["text"]), row.labels[0])
    count = sum(len(path.read_text().splitlines()) for path in (files.few, files.rest))
    return Oracle(box, kept, one, seed, method, mode, files, answers, count)


def measure_oracle(oracle: Oracle, shares: Sequence[float]) -> list[Figure]:
    """Models by growing shares of the labels, by each way of choosing, and by all of them."""
    chosen = _asked(oracle, STRATEGIES[0], shares)
    whole = _kept(oracle, "all", lambda: _train(oracle, "all", _all_rows(oracle)))
    by = {STRATEGIES[0]: chosen, STRATEGIES[1]: _asked(oracle, STRATEGIES[1], shares)}
    name = f"{oracle.one.name}, seed {oracle.seed}"
    figures = [_figure(f"{name}, all labels: accuracy", whole, oracle)]
    for strategy, found in by.items():
        figures += [_figure(f"{name}, {strategy}: accuracy", one, oracle) for one in found]
    wanted = whole.value - LESS
    for strategy, found in by.items():
        least = next((one.labels / oracle.rows for one in found if one.value >= wanted), float("nan"))
        target = Target(SHARE, at_most=True) if strategy != "random" else None
        note = f"accuracy {wanted:.4f}; looked at {', '.join(f'{share:g}' for share in shares)}"
        note += f"; at the last {found[-1].value - whole.value:+.4f}"
        figures.append(
            Figure(f"{name}, {strategy}: share of the labels for {LESS:g} less", least, "", target=target, note=note)
        )
    return figures


def _asked(oracle: Oracle, strategy: str, shares: Sequence[float]) -> list[ByLabels]:
    """The models that the daemon trained while the oracle answered rows chosen so."""
    name = f"{oracle.key}-{strategy}"
    steps = [round(share * oracle.rows) for share in shares]
    found: list[ByLabels] = []
    before = 0
    for step in steps:
        every = step - before

        def answer(step: int = step, every: int = every) -> ByLabels:
            return _answer_until(oracle, name, strategy, step, every)

        found.append(_kept(oracle, f"{strategy}-{step}", answer))
        before = step
    return found


def _answer_until(oracle: Oracle, name: str, strategy: str, step: int, every: int) -> ByLabels:
    """Answer until so many rows have labels, and wait for the training that this starts."""
    box = oracle.box
    if not any(one["name"] == name for one in box.ask("GET", "/v1/datasets")["data"]):
        parts: dict[str, Json] = {"train": str(oracle.files.few), "test": str(oracle.files.test)}
        parts["unlabelled"] = str(oracle.files.rest)
        _run(
            box,
            "POST",
            "/v1/processes",
            {"program": "import-data", "args": {"name": name, "task": "classify", "data": parts}},
        )
    model: dict[str, Json] = {
        "model": f"{name}-model",
        "retrain": every,
        "base": "minilm:1",
        "settings": _settings(oracle),
    }
    file = oracle.kept / f"{name}.jsonl"
    while (state := _state(box, name, every))["labelled"] < step:
        args: dict[str, Json] = {"n": min(BATCH, step - state["labelled"]), "strategy": strategy, "seed": oracle.seed}
        asked = _run(box, "POST", f"/v1/datasets/{name}/queue", {**args, "model": f"{name}-model", "base": "minilm:1"})
        queue = box.ask("GET", f"/v1/processes/{asked['pid']}/result")
        lines = [_answer(oracle, row) for row in queue["rows"]]
        file.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
        _run(box, "POST", f"/v1/datasets/{name}/label", {"answers": str(file), **model})
        print(f"{name}: {state['labelled'] + len(lines):,} labels", flush=True)
    pid = _training_of(box, name, step, every, model)
    return _measured(oracle, wait(box, pid), step)


def _training_of(box: Asking, name: str, step: int, every: int, model: Json) -> int:
    """The pid of the training on so many labels; one that an earlier bench left interrupted goes on."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        training = _state(box, name, every)["training"]
        if training is not None and training["labelled"] == step:
            if training["state"] == "interrupted":
                box.ask("POST", f"/v1/processes/{training['pid']}/resume")
            return int(training["pid"])
        time.sleep(POLL_S)
    raise Stop(f"No training of {name} on {step:,} labels has begun")


def _answer(oracle: Oracle, row: Json) -> Json:
    return {"id": row["id"], "value": oracle.answers[_plain(row["text"])], "by": "oracle"}


def _plain(text: str) -> str:
    return " ".join(text.split())


def _state(box: Asking, name: str, every: int) -> Json:
    return box.ask("GET", f"/v1/datasets/{name}/labelling?model={name}-model&retrain={every}")


def _settings(oracle: Oracle) -> dict[str, Json]:
    return {"method": oracle.method, "seed": oracle.seed, "learning_curve": False}


def _all_rows(oracle: Oracle) -> str:
    """A file of all rows with their labels."""
    path = oracle.files.few.with_name("all.jsonl")
    bare = [json.loads(line)["text"] for line in oracle.files.rest.read_text().splitlines()]
    lines = [json.dumps({"text": text, "label": oracle.answers[_plain(text)]}, ensure_ascii=False) for text in bare]
    path.write_text(oracle.files.few.read_text() + "".join(f"{line}\n" for line in lines))
    return str(path)


def _train(oracle: Oracle, name: str, train: str) -> ByLabels:
    recipe: dict[str, Json] = {
        "task": "classify",
        "name": f"{oracle.key}-{name}",
        "base": "minilm:1",
        "data": {"train": train, "test": str(oracle.files.test)},
        **_settings(oracle),
    }
    body = {"program": "train", "args": recipe, "priority": "background"}
    return _measured(oracle, wait(oracle.box, oracle.box.ask("POST", "/v1/processes", body)["pid"]), oracle.rows)


def _measured(oracle: Oracle, process: Json, labels: int) -> ByLabels:
    version = version_of(oracle.box, process)
    found = measured(version, "accuracy")
    method = str(version["lineage"]["recipe"]["method"])
    return ByLabels(labels, found.value, found.low, found.high, process["usage"]["cpu_s"], method, revision())


def _run(box: Asking, method: str, path: str, body: Json) -> Json:
    """The process that this starts, once it has ended."""
    return wait(box, int(box.ask(method, path, body)["pid"]))


def _kept(oracle: Oracle, what: str, make: Callable[[], ByLabels]) -> ByLabels:
    """The kept result of this name, or the one that is made now."""

    def make_and_say() -> ByLabels:
        made = make()
        print(f"{oracle.key}, {what}: {made.value:.4f} by {made.labels:,} labels, {made.cpu_s:,.0f} s", flush=True)
        return made

    return kept(oracle.kept / f"{oracle.key}-{what}.json", ByLabels, make_and_say)


def _figure(title: str, one: ByLabels, oracle: Oracle) -> Figure:
    share = f"{one.labels:,} of {oracle.rows:,} labels"
    note = f"{one.method}; {one.cpu_s:,.0f} s of processor time; revision {one.revision}"
    return Figure(f"{title}, {share}", one.value, "", one.low, one.high, note=note)
