"""What the tests of adaptation share: texts that can be guessed, a base with a mask token, and a job."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import tiny_training

from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import File
from llmos.programs.describe import choose_files


def texts(folder: Path, rows: int = 160) -> Path:
    """Runs of letters: what stands beside a letter says which it is."""
    chance = random.Random(5)
    lines = ["".join(chance.choice("abcdefgh") * 6 for _ in range(4)) for _ in range(rows)]
    path = folder / "texts.txt"
    path.write_text("\n".join(lines))
    return path


def masking_base(folder: Path, architecture: str = "bert") -> ModelPath:
    """A tiny base whose tokenizer has a mask token, with its files in the manifest, as the store has it."""
    base = tiny_training.base(folder, architecture)
    path = Path(base.folder) / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mask_token": "[UNK]"}))
    paths = [one.name for one in Path(base.folder).iterdir()]
    files = tuple(File(one, "", 0, part) for one, part in choose_files(paths, "tiny"))
    return replace(base, manifest=replace(base.manifest, files=files))


def job_of(folder: Path, base: ModelPath, **args: Json) -> Job:
    """The job of an adaptation; `args` are what matters to the test."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    told = {"base": "tiny:1", "name": "read", "data": str(texts(folder)), "batch_size": 16, "epochs": 6.0, **args}
    return Job(4, "adapt", told, str(scratch), threads=1, models={"base": base})
