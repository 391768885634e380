"""Memory of one and of many LoRA models on one base, beside transformers with a model object for each."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from bench import data
from bench.box import Box, until
from bench.record import Figure, Record, Target
from bench.stop import Stop

MODELS = 20
ROWS = 96
TARGET = Target(1.3, at_most=True)
TEXTS = ["a film of rare warmth", "an hour too long, and it feels like two", "neither good nor bad"]
MIB = 2**20
PEER = """
import json, os, psutil
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging
logging.set_verbosity_error(); logging.disable_progress_bar()
tokenizer = AutoTokenizer.from_pretrained({base!r})
inputs = tokenizer({texts!r}, return_tensors="pt", padding=True)
seen, models = [], []
for count in (1, {models}):
    while len(models) < count:
        model = AutoModelForSequenceClassification.from_pretrained({base!r}, num_labels=2)
        models.append(get_peft_model(model, LoraConfig("SEQ_CLS", r=16, target_modules="all-linear")).eval())
        models[-1](**inputs)
    memory = psutil.Process().memory_full_info()
    seen.append((memory.rss, memory.pss))
print(json.dumps(seen))
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of a process and its children: resident, and resident with shared pages divided among their holders."""

    rss: int
    pss: int


def measure(folder: Path, home: Path, *, models: int, mode: str) -> Record:
    """The serve process after one model has answered, and after all of them have."""
    with Box(home) as box:
        base = box.base()
        names = [f"lora-{index:02d}" for index in range(1, models + 1)]
        _train(box, names, _rows(folder, home))
        box.stop_serving()
        one = _after(box, names[:1])
        many = _after(box, names)
    peer_one, peer_many = _peer(base, models)
    figures = (
        Figure(f"resident, {models} models / 1", many.rss / one.rss, "x", target=TARGET),
        Figure(f"proportional, {models} models / 1", many.pss / one.pss, "x", target=TARGET),
        Figure("one more model", (many.pss - one.pss) / (models - 1) / MIB, "MiB", note="proportional"),
        *_shown("llmos serve", models, one, many),
        Figure(f"transformers + peft, {models} models / 1", peer_many.rss / peer_one.rss, "x", note="resident"),
        *_shown("transformers + peft", models, peer_one, peer_many),
    )
    return Record("memory", mode, {"models": models, "base": "minilm", "method": "lora, rank 16"}, figures)


def _shown(who: str, models: int, one: Held, many: Held) -> list[Figure]:
    return [
        Figure(
            f"{who}, {count} model{'s' if count > 1 else ''}", held.rss / MIB, "MiB", note=f"{held.pss / MIB:.0f} pss"
        )
        for count, held in ((1, one), (models, many))
    ]


def _train(box: Box, names: list[str], rows: Path) -> None:
    """Those this home has not got yet, each trained for one short pass: what they answer does not matter here."""
    there = {model["name"] for model in box.ask("GET", "/v1/models")["data"]}
    for name in (one for one in names if one not in there):
        recipe = {"task": "classify", "name": name, "base": "minilm", "method": "lora", "epochs": 1}
        recipe |= {"data": {"train": str(rows), "text": "text", "label": "label"}}
        pid = box.ask("POST", "/v1/processes", {"program": "train", "args": recipe, "priority": "batch"})["pid"]
        ended = until(partial(box.process_if_ended, pid), f"the training of {name}", every_s=0.1)
        if ended["exit_code"] != 0:
            raise Stop(f"The training of {name} failed: {ended['reason']}")


def _after(box: Box, names: list[str]) -> Held:
    for name in names:
        box.ask("POST", "/v1/tasks/classify", {"model": name, "inputs": TEXTS})
    (serving,) = box.serving()
    first = psutil.Process(serving["os_pid"])
    seen = [process.memory_full_info() for process in (first, *first.children(recursive=True))]
    return Held(sum(one.rss for one in seen), sum(one.pss for one in seen))


def _rows(folder: Path, home: Path) -> Path:
    """A few labelled rows of SST-2 as a CSV file that says its columns."""
    lines = (data.need(folder, "sst2") / "train.tsv").read_text().splitlines()[:ROWS]
    path = home / "few-rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *(line.rsplit("\t", 1) for line in lines)])
    return path


def _peer(base: Path, models: int) -> tuple[Held, Held]:
    code = PEER.format(base=str(base), texts=TEXTS, models=models)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    one, many = json.loads(done.stdout.splitlines()[-1])
    return Held(*one), Held(*many)
