"""Runs with few labelled rows: all are learned, by pairs if these are better; nothing is calibrated on them."""

from __future__ import annotations

import re
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
    dataset, model = trained(few(tmp_path, contrastive=True)).offers
    evidence, lineage = model.draft["evidence"], model.draft["lineage"]
    assert not dataset.draft["splits"].get("validation", {}).get("rows")
    assert evidence["rows"]["train"] + evidence["rows"]["test"] == 24
    assert lineage["recipe"]["contrastive"] is True
    assert lineage["epochs"] == []
    assert "all 22 labelled rows are learned" in lineage["few_labels"]
    assert lineage["steps"] > 0


def test_labelled_rows_not_seen_decide_between_pairs_and_frozen_vectors(tmp_path: Path):
    model = trained(few(tmp_path)).offers[1]
    lineage, evidence = model.draft["lineage"], model.draft["evidence"]
    found = re.search(
        r"of 22 labelled rows, each by a model of the other half, pairs are right about (\d.\d+) and a head on "
        r"frozen vectors about (\d.\d+): (pairs are taken|the base is left as it is)",
        lineage["few_labels"],
    )
    assert found is not None
    is_by_pairs = float(found[1]) > float(found[2])
    assert found[3] == ("pairs are taken" if is_by_pairs else "the base is left as it is")
    assert lineage["recipe"]["contrastive"] is is_by_pairs
    assert (lineage["steps"] > 0) is is_by_pairs
    assert evidence["rows"]["train"] == 22


@pytest.mark.parametrize(("pairs", "frozen", "is_by_pairs"), [(9, 8, True), (8, 8, False), (7, 8, False)])
def test_pairs_are_taken_only_where_they_are_right_about_more_rows(pairs: int, frozen: int, is_by_pairs: bool):
    from llmos.programs.few_labels import Choice

    assert Choice(10, pairs, frozen).is_by_pairs is is_by_pairs


@pytest.mark.parametrize("is_by_pairs", [True, False])
def test_a_run_that_goes_on_decides_as_before_and_a_head_makes_no_step(tmp_path: Path, is_by_pairs: bool):
    from llmos.abi.recipe import Recipe
    from llmos.abi.wire import from_json, to_json
    from llmos.programs.few_labels import CHOICE

    told = few(tmp_path)
    trained(told)
    place = Path(told.scratch) / CHOICE
    known = from_json(place.read_bytes(), dict[str, Json])
    place.write_bytes(to_json({**known, "pairs_right": 20 if is_by_pairs else 1, "frozen_right": 10}))
    lineage = trained(told).offers[1].draft["lineage"]
    assert from_plain(lineage["recipe"], Recipe).contrastive is is_by_pairs
    assert (lineage["steps"] > 0) is is_by_pairs


def test_a_choice_of_other_rows_is_made_anew(tmp_path: Path):
    from llmos.abi.wire import from_json, to_json
    from llmos.programs.few_labels import CHOICE

    told = few(tmp_path)
    place = Path(told.scratch) / CHOICE
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(to_json({"of": "other rows", "rows": 22, "pairs_right": 22, "frozen_right": 0}))
    trained(told)
    assert from_json(place.read_bytes(), dict[str, Json])["of"] != "other rows"


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
