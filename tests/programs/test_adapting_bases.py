"""adapt: a base reads texts without labels, and is offered with its gain on held-out ones and its cost on others."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training

from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import File, Offer, OfferKind
from llmos.programs.describe import choose_files
from llmos.testing.daemon import FakeDaemon, beside

pytestmark = pytest.mark.torch


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


def adapted(folder: Path, base: ModelPath, **args: Json) -> FakeDaemon:
    from llmos.programs import adapt

    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    promoted = args.pop("promoted", None)
    told = {"base": "tiny:1", "name": "read", "data": str(texts(folder)), "batch_size": 16, "epochs": 6.0, **args}
    models = {"base": base} | ({"promoted": promoted} if promoted else {})
    daemon, channel, close = beside()
    try:
        adapt.main(channel, Job(4, "adapt", told, str(scratch), threads=1, models=models))
    finally:
        close()
    return daemon


def offered(daemon: FakeDaemon) -> Offer:
    base, form = daemon.offers
    assert (base.kind, form.kind) == (OfferKind.BASE, OfferKind.RESIDENT)
    return base


@pytest.mark.parametrize(("objective", "architecture", "rate"), [("masked", "bert", 3e-3), ("causal", "llama", 3e-3)])
def test_a_base_that_reads_texts_guesses_others_like_them_better(
    tmp_path: Path, objective: str, architecture: str, rate: float
) -> None:
    daemon = adapted(tmp_path, masking_base(tmp_path, architecture), objective=objective, learning_rate=rate)
    offer = offered(daemon)
    found = offer.draft["evidence"]["adaptation"]
    assert offer.verdict is not None
    assert offer.verdict.promote
    assert found["held_out"]["after"] < found["held_out"]["before"] - 0.1
    assert found["held_out"]["high"] < 0
    assert math.isfinite(found["other_texts"]["change"])
    assert found["texts"] >= 100
    assert offer.draft["lineage"]["made of"] == "tiny:1"
    phases = {one.phase for one in daemon.progress}
    assert ("fit head" in phases) == (objective == "masked")
    assert daemon.progress[-1].message.startswith("read:1 is promoted: held-out loss ")
