"""Distillation: a tagger of CoNLL-2003 into three layers and into a static table, points and speed beside plain ones.

The teacher is trained on MiniLM's six layers. Each student is trained twice on the same labelled rows: without a
teacher, and with it and as many rows whose labels are left out. Every run goes through the daemon.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import data
from bench.box import Box
from bench.record import Figure, Record
from bench.stop import Stop
from llmos.abi.json_type import Json

QUICK_SENTENCES = 1_500  # labelled; as many more without labels
FULL_SENTENCES = 7_000
QUICK_TEST, QUICK_VALIDATION = 800, 300
POLL_S = 2.0
SEED = 7


@dataclass(frozen=True, slots=True)
class Student:
    """A small base, how it is made of minilm, and how long it is trained: a table needs more epochs than layers do."""

    name: str
    title: str
    made: dict[str, Json]
    epochs: float


STUDENTS = (
    Student("minilm-3-layers", "3 layers", {"layers": 3}, 3.0),
    Student("minilm-near", "static, 2 neighbours", {"static": True, "neighbours": 2}, 8.0),
    Student("minilm-static", "static", {"static": True}, 8.0),
)


@dataclass(frozen=True, slots=True)
class Files:
    """The rows of a run: with labels, without, and those that are measured on."""

    train: Path
    unlabelled: Path
    validation: Path
    test: Path

    def of(self, *, taught: bool) -> dict[str, Json]:
        plain = {"train": str(self.train), "validation": str(self.validation), "test": str(self.test)}
        return plain | ({"unlabelled": str(self.unlabelled)} if taught else {})


def measure(folder: Path, home: Path, *, mode: str, count: int | None = None) -> Record:
    """A teacher, and every student with and without it; quick: some of the sentences."""
    sentences = count or (FULL_SENTENCES if mode == "full" else QUICK_SENTENCES)
    files = write_files(data.need(folder, "conll2003"), home / "distil", sentences, is_full=mode == "full")
    figures: list[Figure] = []
    with Box(home) as box:
        box.base()
        teacher = _train(box, "distil-teacher", "minilm:1", files, 3.0)
        figures.append(Figure("teacher, 6 layers: F1", _f1(teacher), note=f"{sentences:,} sentences"))
        for one in STUDENTS:
            figures += _student(box, one, str(teacher["ref"]), files)
    settings = {"base": "minilm", "sentences": sentences, "unlabelled": sentences, "seed": SEED}
    return Record("distil", mode, settings, tuple(figures))


def write_files(source: Path, out: Path, sentences: int, *, is_full: bool) -> Files:
    """The labelled sentences, as many others, and those that are measured on, each drawn with the seed."""
    out.mkdir(parents=True, exist_ok=True)
    train = _shuffled(data.conll(source / "eng.train"))
    validation = _shuffled(data.conll(source / "eng.testa"))
    test = _shuffled(data.conll(source / "eng.testb"))
    if not is_full:
        validation, test = validation[:QUICK_VALIDATION], test[:QUICK_TEST]
    parts = {
        "train": train[:sentences],
        "unlabelled": train[sentences : 2 * sentences],
        "validation": validation,
        "test": test,
    }
    for name, some in parts.items():
        text = "\n\n".join("\n".join(f"{word} {tag}" for word, tag in zip(*one, strict=True)) for one in some)
        (out / f"{name}.conll").write_text(f"{text}\n")
    return Files(*(out / f"{name}.conll" for name in parts))


def _shuffled(sentences: list[data.Sentence]) -> list[data.Sentence]:
    random.Random(SEED).shuffle(sentences)
    return sentences


def _student(box: Box, one: Student, teacher: str, files: Files) -> Sequence[Figure]:
    """The plain student and the taught one: points, and how many times as fast as the teacher."""
    if not any(model["name"] == one.name for model in box.ask("GET", "/v1/models")["data"]):
        _run(box, "shrink", {"base": "minilm:1", "name": one.name, **one.made})
    plain = _train(box, f"distil-plain-{one.name}", f"{one.name}:1", files, one.epochs)
    taught = _train(box, f"distil-taught-{one.name}", f"{one.name}:1", files, one.epochs, teacher)
    found = taught["evidence"]["distillation"]
    speed, bytes_of = found["speed"], found["bytes"]
    against = f"teacher on these rows {found['theirs']:.3f}"
    per_second = f"{speed['student']['tokens']:,.0f} tokens a CPU second, teacher {speed['teacher']['tokens']:,.0f}"
    weighs = f"teacher {bytes_of['teacher'] / 1e6:.1f}"
    return (
        Figure(f"{one.title}: F1, labels alone", _f1(plain)),
        Figure(f"{one.title}: F1, with the teacher", _f1(taught), note=against),
        Figure(
            f"{one.title}: points against the teacher",
            100 * (found["ours"] - found["theirs"]),
            "",
            100 * found["low"],
            100 * found["high"],
        ),
        Figure(f"{one.title}: speed", speed["student"]["rows"] / speed["teacher"]["rows"], "x", note=per_second),
        Figure(f"{one.title}: weights", bytes_of["student"] / 1e6, "MB", note=weighs),
    )


def _train(box: Box, name: str, base: str, files: Files, epochs: float, teacher: str | None = None) -> Json:
    """The version that this training makes."""
    recipe: dict[str, Json] = {
        "task": "tag",
        "name": name,
        "base": base,
        "method": "full",
        "data": files.of(taught=teacher is not None),
        "epochs": epochs,
        "seed": SEED,
        "learning_curve": False,
    }
    made = _run(box, "train", recipe | ({} if teacher is None else {"teacher": teacher}))["made"]
    return box.ask("GET", f"/v1/models/{next(ref for ref in made if ':' in ref)}")


def _run(box: Box, program: str, args: Json) -> Json:
    """The process, once it has ended well; nothing is served meanwhile, so it need not yield."""
    body = {"program": program, "args": args, "priority": "interactive"}
    pid = box.ask("POST", "/v1/processes", body)["pid"]
    while (process := box.ask("GET", f"/v1/processes/{pid}"))["state"] not in ("exited", "interrupted"):
        time.sleep(POLL_S)
    if process["exit_code"] != 0:
        raise Stop(f"{program} {args.get('name')} failed: {process.get('reason') or process.get('fault')}")
    return process


def _f1(version: Json) -> float:
    return float(version["evidence"]["metrics"]["f1"])
