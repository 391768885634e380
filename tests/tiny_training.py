"""What the tests of training share: a tiny base, small data that can be learned, an assignment."""

from __future__ import annotations

import json
import random
from pathlib import Path

from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.testing import tiny

# How far a loss may lie from the same in another order of sums: of its size.
RELATIVE = {"float32": 1e-4, "bfloat16": 2e-2}
SIGNS = {"fruit": ("apple", "pear", "plum"), "metal": ("iron", "zinc", "gold"), "animal": ("cow", "hen", "pig")}


def base(folder: Path, architecture: str = "bert") -> ModelPath:
    """A tiny random model as the store locates it."""
    path = folder / f"base-{architecture}"
    if not path.exists():
        tiny.write(path, architecture)
    return ModelPath(Manifest("tiny", 1, Kind.BASE, "embed", (), base_digest="0" * 64), str(path), str(path))


def sorting(folder: Path, rows: int = 120) -> Path:
    """Short texts whose one telling word gives the label."""
    chance = random.Random(3)
    lines = ["text,label"]
    for i in range(rows):
        label = sorted(SIGNS)[i % 3]
        lines.append(f"{chance.choice('uvwxyz') * 3} {chance.choice(SIGNS[label])} {i},{label}")
    path = folder / "sorting.csv"
    path.write_text("\n".join(lines))
    return path


def naming(folder: Path, rows: int = 150) -> Path:
    """Sentences in which capital letters are names."""
    chance = random.Random(3)
    sentences = []
    for i in range(rows):
        words = [(chance.choice(("saw", "met", "and")), "O") for _ in range(3)]
        words[i % 3] = (chance.choice(("ADA", "BOB", "EVE")), "I-PER")
        sentences.append("\n".join(f"{word} {tag}" for word, tag in [*words, (str(i), "O")]))
    path = folder / "naming.conll"
    path.write_text("\n\n".join(sentences))
    return path


def unlabelled(folder: Path, task: str, rows: int = 60) -> Path:
    """Rows of the same kind as those with labels, without them."""
    chance = random.Random(4)
    if task == "tag":
        path = folder / "rest.conll"
        names = [chance.choice(("ADA", "BOB", "EVE")) for _ in range(rows)]
        path.write_text("\n\n".join(f"saw O\n{name} O\nmore{i} O" for i, name in enumerate(names)))
        return path
    words = [word for some in SIGNS.values() for word in some]
    path = folder / "rest.csv"
    path.write_text("\n".join(["text", *(f"{chance.choice(words)} more {i}" for i in range(rows))]))
    return path


def assignment(folder: Path, recipe: dict[str, Json], *, dtype: str = "float32", **models: ModelPath) -> Job:
    """What a trainer is told; `recipe` needs only what matters to the test."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    plain = {
        "name": "sorter",
        "base": "tiny:1",
        "method": "full",
        "epochs": 4.0,
        "learning_rate": 3e-3,
        "batch_size": 8,
        **recipe,
    }
    models = {"base": base(folder), **models}
    return Job(1, "train", plain, str(scratch), dtype=dtype, threads=1, models=models)


def preferring(folder: Path, rows: int = 60, *, pairs: bool = True) -> Path:
    """Prompts whose first letter decides which of two answers is better; as single answers that are good or bad."""
    chance = random.Random(3)
    lines = []
    for i in range(rows):
        letter = "uv"[i % 2]
        good, bad = ("apple", "iron") if letter == "u" else ("iron", "apple")
        row: dict[str, Json] = {"prompt": f"{letter * 3} {chance.choice('klmn') * 2} {i}"}
        if pairs:
            row |= {"chosen": good, "rejected": bad}
        else:
            row |= {"completion": good if i % 4 < 2 else bad, "label": i % 4 < 2}
        lines.append(json.dumps(row))
    path = folder / ("pairs.jsonl" if pairs else "singles.jsonl")
    path.write_text("\n".join(lines))
    return path
