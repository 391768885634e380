"""A base that is made of another one: where the other's weights are read, and the files that both have."""

from __future__ import annotations

import shutil
from pathlib import Path

from llmos.abi.frame import Job, ModelPath
from llmos.abi.model import Part
from llmos.nn.load import INDEX
from llmos.nn.text import tokenizer as tokenizers
from llmos.programs.channel import Channel
from llmos.programs.describe import TOKENIZER
from llmos.programs.resident import with_resident


def weights_folder(channel: Channel, job: Job, base: ModelPath) -> Path:
    """The folder with the base's weights as published; of a packed file, its resident form."""
    if any(Path(base.folder).glob("*.safetensors")):
        return Path(base.folder)
    resident = with_resident(channel, job, base).resident
    assert resident is not None
    return Path(resident)


def copy_beside(base: ModelPath, source: Path, out: Path) -> None:
    """Copy everything but weights: tokenizer, pooling, license."""
    skipped = {INDEX, "config.json", "evidence.json"}
    named = [file.path for file in base.manifest.files if file.part is not Part.WEIGHTS]
    if source != Path(base.folder):
        named = [path.name for path in source.iterdir() if path.name in TOKENIZER or path.suffix == ".json"]
    for path in named:
        if path not in skipped and (source / path).is_file():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, out / path)
    if not (out / tokenizers.FILE).exists():
        out.mkdir(parents=True, exist_ok=True)
        tokenizers.read(source).save(str(out / tokenizers.FILE))
