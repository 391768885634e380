"""Pupils: small LoRA models of trainable tasks, from few rows in one short pass. What they answer does not matter."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench import data
from bench.box import Box, until
from bench.stop import Stop
from llmos.abi.json_type import Json

ROWS, SENTENCES = 96, 64
ASKED = "Which person is named?"


def ensure(box: Box, wanted: Mapping[str, str], folder: Path, scratch: Path) -> None:
    """Train those of these models, by name and task, that this home has not got yet."""
    there = {model["name"] for model in box.ask("GET", "/v1/models")["data"]}
    for name, task in wanted.items():
        if name not in there:
            rows = ROWS_OF[task](folder, scratch)
            recipe = {"task": task, "name": name, "base": "minilm", "method": "lora", "epochs": 1, "data": rows}
            body = {"program": "train", "args": recipe, "priority": "batch"}
            finish(box, box.ask("POST", "/v1/processes", body)["pid"], f"the training of {name}")


def finish(box: Box, pid: int, what: str) -> None:
    """Wait until this process has ended; Stop if it failed."""
    ended = until(partial(box.process_if_ended, pid), what, every_s=0.1)
    if ended["exit_code"] != 0:
        raise Stop(f"{what} failed: {ended['reason']} {ended['fault']}")


def _label_rows(folder: Path, scratch: Path) -> Json:
    lines = (data.need(folder, "sst2") / "train.tsv").read_text().splitlines()[:ROWS]
    path = scratch / "mood.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *(line.rsplit("\t", 1) for line in lines)])
    return {"train": str(path), "text": "text", "label": "label"}


def _tag_rows(folder: Path, scratch: Path) -> Json:
    lines = (
        "\n".join(f"{word} {tag}" for word, tag in zip(words, tags, strict=True))
        for words, tags in _sentences(folder)[:SENTENCES]
    )
    path = scratch / "names.conll"
    path.write_text("\n\n".join(lines) + "\n")
    return {"train": str(path)}


def _answer_rows(folder: Path, scratch: Path) -> Json:
    """One question about real sentences: the person that is named first, or nobody."""
    rows = []
    for words, tags in _sentences(folder)[:ROWS]:
        first = next((i for i, tag in enumerate(tags) if tag == "B-PER"), None)
        row: dict[str, Json] = {"question": ASKED, "passage": " ".join(words), "answer": ""}
        if first is not None:
            last = next((i for i in range(first + 1, len(tags)) if tags[i] != "I-PER"), len(tags))
            start = len(" ".join([*words[:first], ""]))
            row |= {"answer": " ".join(words[first:last]), "start": start}
        rows.append(row)
    path = scratch / "persons.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"train": str(path)}


def _sentences(folder: Path) -> list[data.Sentence]:
    return data.conll(data.need(folder, "conll2003") / "eng.train")


ROWS_OF = {"classify": _label_rows, "tag": _tag_rows, "answer": _answer_rows}
