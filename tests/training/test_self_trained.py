"""Training with unlabelled rows: evidence says what was learned, and a run that goes on repeats no round."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_training

from llmos.abi.error import BadSetting
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.recipe import check, recipe_of
from llmos.testing.daemon import FakeDaemon, beside

pytestmark = pytest.mark.torch


def trained(told: Job) -> FakeDaemon:
    from llmos.programs import train

    daemon, channel, close = beside()
    try:
        train.main(channel, told)
    finally:
        close()
    return daemon


def told_with(folder: Path, texts: list[str], **settings: Json) -> Job:
    rest = folder / "rest.csv"
    rest.write_text("\n".join(["text", *texts]))
    data = {"train": str(tiny_training.sorting(folder)), "unlabelled": str(rest)}
    return tiny_training.assignment(folder, {"task": "classify", "epochs": 1.0, "data": data, **settings})


def test_unlabelled_rows_are_learned_and_only_the_labelled_ones_are_in_the_splits(tmp_path: Path):
    texts = [f"{word} number {i}" for i in range(30) for word in ("apple", "iron")]
    dataset, model = trained(told_with(tmp_path, texts)).offers
    found = model.draft["evidence"]["self_training"]
    assert found["unlabelled"] == len(texts)
    assert [one["rows"] for one in found["rounds"]] == sorted(one["rows"] for one in found["rounds"])
    assert 0 < found["rounds"][-1]["rows"] <= len(texts)
    assert model.draft["lineage"]["self_training"] == found
    assert "unlabelled" not in dataset.draft["splits"]


def test_a_run_that_goes_on_has_the_rounds_that_it_came_to(tmp_path: Path):
    texts = [f"{word} number {i}" for i in range(20) for word in ("apple", "iron")]
    told = told_with(tmp_path, texts, self_training_rounds=2)
    first = trained(told).offers[1].draft["evidence"]["self_training"]
    kept = sorted((tmp_path / "scratch" / "self-training").glob("round-*.json"))
    before = [one.read_bytes() for one in kept]
    assert len(kept) == len(first["rounds"]) == 2
    assert trained(told).offers[1].draft["evidence"]["self_training"] == first
    assert [one.read_bytes() for one in kept] == before


@pytest.mark.parametrize("rounds", [1, 2])
def test_an_adapter_learns_from_labels_of_a_model_by_all_weights(tmp_path: Path, rounds: int):
    texts = [f"{word} number {i}" for i in range(20) for word in ("apple", "iron")]
    more = {"method": "lora", "contrastive": True, "self_training_rounds": rounds, "epochs": None}
    _, model = trained(told_with(tmp_path, texts, **more)).offers
    found = model.draft["evidence"]["self_training"]
    assert [one["by"] for one in found["rounds"]] == ["contrastive", "model 1"][:rounds]
    labelled_by = weights_in(tmp_path / "scratch" / "checkpoints-full-contrastive")
    assert "backbone.embeddings.LayerNorm.weight" in labelled_by
    assert all("lora" in one for one in weights_in(tmp_path / "scratch" / "model", "adapter_model"))


def test_a_run_begun_before_adapters_were_taught_begins_its_rounds_anew(tmp_path: Path):
    texts = [f"{word} number {i}" for i in range(20) for word in ("apple", "iron")]
    trained(told_with(tmp_path, texts, method="full", contrastive=True))
    scratch = tmp_path / "scratch"
    (scratch / "checkpoints-contrastive").rename(scratch / "checkpoints")  # of other digests
    _, model = trained(told_with(tmp_path, texts, method="lora", contrastive=True)).offers
    assert model.draft["evidence"]["self_training"]["start"] == "contrastive"


def weights_in(folder: Path, name: str = "weights") -> set[str]:
    from safetensors import safe_open

    (path,) = folder.rglob(f"{name}.safetensors")
    with safe_open(path, "numpy") as file:
        return set(file.keys())


@pytest.mark.parametrize("settings", [{"task": "similarity"}, {"options": {"multi_label": True}}])
def test_unlabelled_rows_are_refused_where_nothing_learns_from_them(settings: dict[str, Json]):
    args = {"task": "classify", "name": "x", "base": "b", "data": {"train": "/a", "unlabelled": "/b"}, **settings}
    with pytest.raises(BadSetting):
        check(recipe_of(args))
