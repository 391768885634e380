"""Which predictions by row a version has: those of its newest evaluation, or of the one that is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from llmos.abi.error import NotFound
from llmos.abi.model import Kind, Manifest
from llmos.kernel.store.evaluations import evaluated_datasets, find_predictions
from llmos.testing.errors import fails_with

MODEL = Manifest("support", 2, Kind.MODEL, "classify", ())


def evaluation(home: Path, pid: int, model: str, *, has_predictions: bool = True, data: str = "x") -> None:
    folder = home / str(pid)
    folder.mkdir(parents=True)
    (folder / "evidence.json").write_text(json.dumps({"facts": {"model": model, "data": data}, "rows": {"test": 1}}))
    if has_predictions:
        (folder / "predictions.jsonl.gz").write_bytes(b"")


def test_the_newest_evaluation_of_the_version_is_found(tmp_path: Path) -> None:
    assert find_predictions(tmp_path, MODEL, None) is None
    evaluation(tmp_path, 3, "support:2")
    evaluation(tmp_path, 20, "support:2")
    evaluation(tmp_path, 21, "support:1")
    evaluation(tmp_path, 22, "support:2", has_predictions=False)
    (tmp_path / "notes").mkdir()
    assert find_predictions(tmp_path, MODEL, None) == (tmp_path / "20" / "predictions.jsonl.gz", 20)


def test_an_evaluation_that_is_named_must_be_of_this_version(tmp_path: Path) -> None:
    evaluation(tmp_path, 3, "support:2")
    evaluation(tmp_path, 4, "support:1")
    assert find_predictions(tmp_path, MODEL, 3) == (tmp_path / "3" / "predictions.jsonl.gz", 3)
    with fails_with(NotFound, evaluation=4, model="support:1"):
        find_predictions(tmp_path, MODEL, 4)
    with fails_with(NotFound, evaluation=5):
        find_predictions(tmp_path, MODEL, 5)


def test_the_datasets_of_a_training_are_those_it_read_and_the_one_it_kept(tmp_path: Path) -> None:
    read = {"train": "rows@3", "validation": None, "test": "/data/x@2.csv"}
    model = replace(MODEL, lineage={"dataset": "support@2", "recipe": {"data": read}})
    assert evaluated_datasets(tmp_path, model, None) == ("support@2", "rows@3")


def test_the_dataset_of_an_evaluation_is_the_one_it_measured_on(tmp_path: Path) -> None:
    evaluation(tmp_path, 3, "support:2", data="rows@3")
    evaluation(tmp_path, 4, "support:2", data="/data/rows.csv")
    assert [evaluated_datasets(tmp_path, MODEL, pid) for pid in (3, 4, 5)] == [("rows@3",), (), ()]
