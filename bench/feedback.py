"""The closed loop: a model of a tenth of the rows, true labels for a fifth of its calls, and no person in between.

The calls are texts that it was not trained on, in random order, some of them again. It learns by its order, whenever so
many rows have come, and each version that is promoted is measured on test rows that the daemon never sees.
"""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from bench import data
from bench.box import Box
from bench.record import Figure, Record, Target
from llmos.abi.error import Conflict
from llmos.abi.process import Priority, Process
from llmos.sdk.client import Client

SET, NAME, WHOLE = "banking77", "loop", "whole"
FIRST, TOLD = 0.1, 0.2  # of the rows, of the calls
LESS = 0.02  # of the accuracy with all rows, that may be missing
BATCH = 64  # texts of a call
EVERY = 1_000  # rows of feedback for each training
PASSES = {"quick": 4, "full": 8}  # over the texts, at most
WITHIN_S = 3_600.0
Texts = Sequence[tuple[str, str]]


def measure(folder: Path, home: Path, *, mode: str, seeds: int = 1, method: str = "head") -> Record:
    """One loop for each seed."""
    found = data.need(folder, SET)
    train, test = (_read(found / f"{part}.csv") for part in ("train", "test"))
    figures: list[Figure] = []
    with Box(home) as box, Client(box.url) as client:
        box.base()
        recipe = {"base": "minilm", "method": method, "learning_curve": False, "test": str(found / "test.csv")}
        client.train("classify", data=found / "train.csv", name=WHOLE, **recipe)
        whole = _accuracy(client, WHOLE, test)
        figures.append(Figure("accuracy with all rows", whole, note=f"{len(train):,} rows, {method}"))
        for seed in range(1, seeds + 1):
            figures += _loop(box, client, train, test, whole, seed, mode, method)
    settings = {"base": "minilm", "method": method, "first": FIRST, "told": TOLD, "every": EVERY, "seeds": seeds}
    return Record("feedback", mode, settings, tuple(figures))


def _loop(
    box: Box, client: Client, train: Texts, test: Texts, whole: float, seed: int, mode: str, method: str
) -> list[Figure]:
    chance, name = random.Random(seed), f"{NAME}-{seed}-{int(time.time())}"
    rows = list(train)
    chance.shuffle(rows)
    first, rest = rows[: round(FIRST * len(rows))], rows[round(FIRST * len(rows)) :]
    file = box.home / f"{name}.csv"
    _write(file, first)
    client.train("classify", data=file, name=name, base="minilm", method=method, learning_curve=False, seed=seed)
    curve = [(0, client.model(name).ref, _accuracy(client, name, test))]
    client.learn(name, f"{EVERY} rows")
    told = calls = 0
    for _ in range(PASSES[mode]):
        chance.shuffle(rest)
        for start in range(0, len(rest), BATCH):
            some = rest[start : start + BATCH]
            client.run(name, [text for text, _ in some])
            call = client.last_call_id
            calls += len(some)
            for index, (_, label) in enumerate(some):
                if chance.random() < TOLD:
                    client.feedback(call, index=index, label=label)
                    told += 1
                    if told % EVERY == 0:
                        _settle(client, name)
                        _measure_new(client, name, test, told, curve)
        if curve[-1][2] >= whole - LESS:
            break
    worst = min((after - before for (_, _, before), (_, _, after) in pairwise(curve)), default=0.0)
    steps = client.learn(name).steps
    note = "; ".join(f"{ref} {accuracy:.4f} after {rows:,} rows" for rows, ref, accuracy in curve)
    return [
        Figure(f"seed {seed}: accuracy with {FIRST:.0%} of the rows", curve[0][2], note=f"{len(first):,} rows"),
        Figure(f"seed {seed}: accuracy after the loop", curve[-1][2], target=Target(whole - LESS), note=note),
        Figure(f"seed {seed}: calls", calls, note=f"{told:,} labels told, {len(steps)} trainings"),
        Figure(f"seed {seed}: least gain of a promoted version", worst, target=Target(0.0), note="on the test rows"),
    ]


def _settle(client: Client, name: str) -> None:
    """Until nothing is at work for this name and fewer rows wait than a training is begun with."""
    end, hurried = time.monotonic() + WITHIN_S, set[int]()
    for event in client.watch():
        state = client.learn(name)
        if state.pid is not None and state.pid not in hurried:
            hurried.add(state.pid)
            with suppress(Conflict):  # it has just ended
                client.nice(state.pid, Priority.INTERACTIVE)  # beside other work, idle classes may get no processor
        if (state.pid is None and state.waiting < EVERY) or time.monotonic() > end:
            return
        if isinstance(event.process, Process) and event.process.fault is not None:
            print(event.process.fault.message, flush=True)


def _measure_new(client: Client, name: str, test: Texts, told: int, curve: list[tuple[int, str, float]]) -> None:
    ref = client.model(name).ref
    if ref != curve[-1][1]:
        curve.append((told, ref, _accuracy(client, name, test)))
        print(f"{told:,} rows told: {ref} {curve[-1][2]:.4f}", flush=True)
    else:
        print(f"{told:,} rows told: {client.learn(name).steps[0].verdict or 'nothing new'}", flush=True)


def _accuracy(client: Client, name: str, test: Texts) -> float:
    right = 0
    for start in range(0, len(test), BATCH):
        some = test[start : start + BATCH]
        answers = client.run(name, [text for text, _ in some])
        right += sum(answer.label == label for answer, (_, label) in zip(answers, some, strict=True))
    return right / len(test)


def _read(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row.get("label") or row["category"]) for row in csv.DictReader(file)]


def _write(path: Path, rows: Texts) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
