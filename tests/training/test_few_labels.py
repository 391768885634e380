"""Runs with few labelled rows: all are learned, texts by pairs; evidence says so, and nothing is calibrated on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_training

from llmos.abi.error import BadSetting
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.recipe import check, recipe_of
from llmos.abi.wire import from_plain
from llmos.data.dataset import LoadedData, gather
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


def few(folder: Path, rows: int = 24, **settings: Json) -> Job:
    data: dict[str, Json] = {"train": str(tiny_training.sorting(folder, rows))}
    told = tiny_training.assignment(folder, {"task": "classify", "data": data, **settings})
    if "epochs" not in settings:
        del told.args["epochs"]
    return told


def decided(told: Job) -> tuple[Json, Json, LoadedData]:
    """Whether texts are learned by pairs, whether all rows are learned, and the rows."""
    from llmos.abi.recipe import Recipe
    from llmos.programs.few_labels import for_few_rows

    recipe = from_plain(told.args, Recipe)
    data = gather(recipe.data, recipe.task, {}, {})
    recipe, data, _ = for_few_rows(recipe, told, data)
    return recipe.contrastive, recipe.learn_validation, data


def test_few_rows_a_label_are_learned_by_pairs_and_none_is_kept_to_validate_on(tmp_path: Path):
    dataset, model = trained(few(tmp_path)).offers
    evidence, lineage = model.draft["evidence"], model.draft["lineage"]
    assert not dataset.draft["splits"].get("validation", {}).get("rows")
    assert evidence["rows"]["train"] + evidence["rows"]["test"] == 24
    assert lineage["recipe"]["contrastive"] is True
    assert lineage["epochs"] == []
    assert "all 22 labelled rows are learned" in lineage["few_labels"]
    assert lineage["steps"] > 0


def test_the_same_rows_with_epochs_are_fine_tuned_and_some_validate(tmp_path: Path):
    by_pairs, learns_all, data = decided(few(tmp_path, epochs=1.0))
    assert (by_pairs, learns_all) == (False, False)
    assert data.splits.validation


@pytest.mark.parametrize("rows", [24, 300])
def test_what_the_recipe_says_of_pairs_and_of_validation_is_done(tmp_path: Path, rows: int):
    assert decided(few(tmp_path, rows, contrastive=True))[0] is True
    assert decided(few(tmp_path, rows, contrastive=False))[0] is False
    by_pairs, learns_all, data = decided(few(tmp_path, rows, contrastive=True, learn_validation=False))
    assert (by_pairs, learns_all) == (True, False)
    assert data.splits.validation
    assert not decided(few(tmp_path, rows, learn_validation=True))[2].splits.validation


def test_many_rows_a_label_are_fine_tuned(tmp_path: Path):
    assert decided(few(tmp_path, rows=300))[:2] == (False, False)


@pytest.mark.parametrize("settings", [{"options": {"abstain": 0.1}}, {"patience": 2}])
def test_rows_that_a_promise_needs_are_not_learned(tmp_path: Path, settings: dict[str, Json]):
    assert decided(few(tmp_path, **settings))[1] is False


def test_rows_that_were_given_to_validate_on_are_not_learned(tmp_path: Path):
    path = str(tiny_training.sorting(tmp_path, 24))
    told = few(tmp_path, data={"train": path, "validation": path})
    assert decided(told)[1] is False


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "tag"},
        {"task": "similarity"},
        {"options": {"multi_label": True}},
        {"method": "head"},
        {"augment": "swap"},
    ],
)
def test_pairs_are_refused_where_texts_cannot_be_learned_by_them(settings: dict[str, Json]):
    args = {"task": "classify", "name": "x", "base": "b", "data": {"train": "/a"}, "contrastive": True, **settings}
    with pytest.raises(BadSetting):
        check(recipe_of(args))
