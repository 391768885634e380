"""Rules that ask a model of the store about rows without labels: what it is sure of is its vote."""

from __future__ import annotations

from pathlib import Path

import tiny_training
from test_dataset_programs import Shop

from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.programs import import_data, train, weak_label_data
from llmos.testing.daemon import beside

RULES = "rules:\n  - {name: sorter, model: 'sorter:1', least: 0}\n"


def sorter(folder: Path) -> ModelPath:
    """A tiny trained classifier as the store locates it."""
    daemon, channel, close = beside()
    recipe = {"task": "classify", "data": {"train": str(tiny_training.sorting(folder))}, "epochs": 1.0}
    train.main(channel, tiny_training.assignment(folder, recipe))
    close()
    offer = daemon.offers[-1]
    draft = {key: offer.draft[key] for key in ("task", "base", "method", "options")}
    manifest = Manifest("sorter", 1, Kind.MODEL, files=(), labels=tuple(offer.draft["labels"]), **draft)
    return ModelPath(manifest, offer.folder, base=tiny_training.base(folder))


def test_a_model_votes_on_rows_that_have_no_label(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.folder.mkdir()
    shop.models["sorter:1"] = sorter(tmp_path)
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    data = {"train": str(tiny_training.sorting(tmp_path, 30))}
    data["unlabelled"] = str(tiny_training.unlabelled(tmp_path, "classify", 12))
    shop.run(import_data, name="things", task="classify", data=data)
    shop.run(weak_label_data, data="things@1", name="weak", rules=str(rules))
    manifest = shop.manifests["weak@2"]
    reader = DatasetReader(Path(shop.folders["weak@2"]), manifest)
    voted = [one for one in reader.rows("train") if "weak_label" in one.extra]
    assert len(voted) + manifest.splits.get("unlabelled", 0) == 12
    assert voted
    assert all(one.extra["weak_label"]["votes"] == {"sorter": one.row.labels[0]} for one in voted)
