"""shrink: a smaller base is offered with its tokenizer, what it was made of, and how fast it is beside the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training

from llmos.abi.error import BadSetting
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import File, Kind, Manifest, OfferKind, Part
from llmos.programs.describe import choose_files
from llmos.testing.daemon import FakeDaemon, beside

pytestmark = pytest.mark.torch


def shrunk(folder: Path, architecture: str = "bert", **args: Json) -> FakeDaemon:
    from llmos.programs import shrink

    base = tiny_training.base(folder, architecture)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    files = tuple(path.name for path in Path(base.folder).iterdir())
    assert "tokenizer.json" in files
    daemon, channel, close = beside()
    told = {"base": "tiny:1", "name": "less", **args}
    try:
        shrink.main(channel, Job(4, "shrink", told, str(scratch), threads=1, models={"base": with_files(base)}))
    finally:
        close()
    return daemon


def with_files(base: ModelPath) -> ModelPath:
    """The same base with its files in the manifest, as the store has it."""
    paths = [path.name for path in Path(base.folder).iterdir()]
    files = tuple(File(path, "", 0, part) for path, part in choose_files(paths, "tiny"))
    return replace(base, manifest=replace(base.manifest, files=files))


@pytest.mark.parametrize(
    ("args", "architecture", "kept"),
    [
        ({"layers": "2"}, "BertModel", "layers 0, 1 of 3"),
        ({"layers": "1,2"}, "BertModel", "layers 1, 2 of 3"),
        ({"static": True, "dimensions": 8}, "StaticEmbeddings", "a table of 8 dimensions"),
    ],
)
def test_a_smaller_base_comes_with_its_origin_and_both_speeds(
    tmp_path: Path, args: dict[str, Json], architecture: str, kept: str
) -> None:
    daemon = shrunk(tmp_path, **args)
    base, form = daemon.offers
    assert (base.kind, base.name, form.kind) == (OfferKind.BASE, "less", OfferKind.RESIDENT)
    assert dict(base.files) == {
        "model.safetensors": Part.WEIGHTS,
        "config.json": Part.CONFIG,
        "tokenizer.json": Part.TOKENIZER,
        "tokenizer_config.json": Part.TOKENIZER,
    }
    draft = base.draft
    assert (draft["task"], draft["architecture"]) == ("embed", architecture)
    lineage = draft["lineage"]
    assert (lineage["made of"], lineage["made of digest"], lineage["kept"]) == ("tiny:1", "0" * 64, kept)
    assert lineage["tokens per CPU second"] > 0 < lineage["tokens per CPU second before"]
    assert ("rate_factor" in draft["options"]) == (architecture == "StaticEmbeddings")
    assert daemon.progress[-1].message.startswith("less:1 is ready: ")


def test_a_model_is_trained_on_a_static_base_and_answers(tmp_path: Path) -> None:
    from llmos.evaluation.evaluator import load_evaluator
    from llmos.programs import train

    made = shrunk(tmp_path, static=True, dimensions=16).offers[0]
    manifest = Manifest("less", 1, Kind.BASE, "embed", (), base_digest="1" * 64, options=made.draft["options"])
    less = ModelPath(manifest, made.folder, made.folder)
    daemon, channel, close = beside()
    recipe = {
        "task": "classify",
        "base": "less:1",
        "data": {"train": str(tiny_training.sorting(tmp_path))},
        "learning_rate": None,
        "epochs": 20.0,
    }
    train.main(channel, replace(tiny_training.assignment(tmp_path, recipe), models={"base": less}))
    close()
    offer = daemon.offers[-1]
    assert offer.draft["lineage"]["recipe"]["learning_rate"] == pytest.approx(1e-3)  # ten times the usual
    draft = {key: offer.draft[key] for key in ("task", "base", "method", "options")}
    model = Manifest("sorter", 1, Kind.MODEL, files=(), labels=tuple(offer.draft["labels"]), **draft)
    evaluator = load_evaluator(ModelPath(model, offer.folder, base=less), "classify", "float32", "cpu0")
    assert type(evaluator.candidate.loaded.backbone).__name__ == "StaticEmbeddings"
    assert offer.draft["evidence"]["metrics"]["accuracy"] > 0.5  # of three labels


@pytest.mark.parametrize("layers", ["3", "0,3", "7"])
def test_layers_that_the_base_does_not_have_are_refused(tmp_path: Path, layers: str) -> None:
    with pytest.raises(BadSetting) as raised:
        shrunk(tmp_path, layers=layers)
    assert raised.value.detail["key"] == "layers"
