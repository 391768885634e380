"""A new version of a name is compared with the promoted one on the rows that this one was tested on, too."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training
from test_trainer import located, trained

from llmos.abi.frame import Job, ModelPath
from llmos.abi.model import Offer

pytestmark = pytest.mark.torch

OTHER = {"fruit": "metal", "metal": "animal", "animal": "fruit"}
RECIPE = {"task": "classify", "epochs": 12.0, "learning_curve": False}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPath, str]:
    """A promoted model that has learned its rows, and the folder of these."""
    folder = tmp_path_factory.mktemp("good")
    path = tiny_training.sorting(folder)
    dataset, model = trained(folder, {**RECIPE, "data": {"train": str(path)}}).offers
    found = located(model, tiny_training.base(folder))
    found = replace(found, manifest=replace(found.manifest, lineage={"dataset": "sorter@1"}))
    return found, dataset.folder


def trained_on(folder: Path, lines: list[str], good: tuple[ModelPath, str]) -> Offer:
    """The version offered by a training on these rows, beside the promoted one."""
    path = folder / "new.csv"
    path.write_text("\n".join(["text,label", *lines]))
    recipe = {**RECIPE, "data": {"train": str(path)}}
    told: Job = tiny_training.assignment(folder, recipe, promoted=good[0])
    return trained(folder, recipe, told=replace(told, datasets={"sorter@1": good[1]})).offers[1]


def rows(folder: Path) -> list[list[str]]:
    return [line.rsplit(",", 1) for line in tiny_training.sorting(folder).read_text().splitlines()[1:]]


@pytest.mark.parametrize("suffix", ["", " x"], ids=["the same texts", "other texts"])
def test_a_file_with_wrong_labels_replaces_no_better_version(tmp_path, good, suffix):
    """By its own test rows the new version is right and the promoted one wrong, for these have the wrong labels too."""
    wrong = [f"{text}{suffix},{OTHER[label]}" for text, label in rows(tmp_path)]
    offer = trained_on(tmp_path, wrong, good)
    evidence = offer.draft["evidence"]
    assert offer.verdict is not None
    assert evidence["compared"]["difference"] > 0.5
    assert evidence["compared"]["earlier"]["difference"] < -0.5
    assert (offer.verdict.promote, evidence["gate"]["standing"]) == (False, "worse")
    assert "rows that sorter:1 was tested on" in offer.verdict.reason
    assert ("which have other labels in the new rows" in offer.verdict.reason) is (suffix == "")


def test_a_few_corrected_labels_are_no_contradiction(tmp_path, good):
    lines = rows(tmp_path)
    for one in random.Random(3).sample(lines, 5):
        one[1] = OTHER[one[1]]
    offer = trained_on(tmp_path, [",".join(one) for one in lines], good)
    assert set(offer.draft["evidence"]["compared"]["earlier"]) == {"note"}


def test_rows_of_labels_that_the_new_version_does_not_have_are_left_out(tmp_path, good):
    two = [f"{text} x,{label}" for text, label in rows(tmp_path) if label != "animal"]
    earlier = trained_on(tmp_path, two, good).draft["evidence"]["compared"]["earlier"]
    assert earlier["rows"] < 12
    assert f"without {12 - earlier['rows']} of labels that it does not have" == earlier["note"]
