"""The space of a search: what a trial may have, and what becomes of it in a recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.recipe import Data, Recipe, check, settings_of_method
from llmos.tuning.space import SpaceFacts, recipe_changes, space_of

FACTS = SpaceFacts(("full", "lora", "head"), "full", True, "mean", "", frozenset())
RECIPE = Recipe("classify", "mood", "tiny:1", Data("/rows.csv"))


def defaults(method):
    return (4.0, 1e-4 if method == "full" else 1e-3, 10.0, 32)


def test_the_first_trial_is_a_training_run_without_a_search():
    changes = recipe_changes(space_of(FACTS).defaults(), defaults)
    assert changes == {
        "method": "full",
        "epochs": 4.0,
        "learning_rate": 1e-4,
        "head_rate_ratio": 10.0,
        "batch_size": 32,
        "options": {"pooling": "mean"},
    }


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=7, max_size=7))
def test_every_point_of_the_space_is_a_valid_recipe_and_can_be_drawn(places):
    space = space_of(FACTS)
    settings = space.settings(places)
    recipe = replace(RECIPE, **recipe_changes(settings, defaults))
    check(recipe)
    assert 1e-5 < recipe.learning_rate < 1e-2
    assert ("rank" in settings) == (settings["method"] == "lora")
    assert ("head_rate" in settings) == (settings["method"] != "head")
    for one in space.dimensions:
        if one.name in settings:
            assert 0 <= one.place_of(settings[one.name]) <= 1


@pytest.mark.parametrize(
    ("fixed", "gone"),
    [
        ("learning_rate", "rate"),
        ("epochs", "epochs"),
        ("batch_size", "batch"),
        ("rank", "rank"),
        ("head_rate_ratio", "head_rate"),
        ("pooling", "pooling"),
    ],
)
def test_what_the_user_has_given_is_not_searched(fixed, gone):
    names = [one.name for one in space_of(replace(FACTS, fixed=frozenset({fixed}))).dimensions]
    assert gone not in names
    assert len(names) == 6


def test_a_task_without_a_head_or_a_pooling_has_no_settings_for_them():
    facts = replace(FACTS, has_head=False, pooling="", methods=("full", "lora"))
    assert [one.name for one in space_of(facts).dimensions] == ["method", "rate", "epochs", "batch", "rank"]


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "adalora", "loha", "lokr", "vera", "miss"])
@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_a_rank_keeps_its_proportions_and_stays_in_the_method_s_range(method, factor):
    changes = recipe_changes({"method": method, "rank": factor}, defaults)
    recipe = replace(RECIPE, **changes)
    check(recipe)
    values = settings_of_method(recipe)
    assert values["rank"] >= 1
    if method == "lora":
        assert (values["rank"], values["alpha"]) == (16 * factor, 32 * factor)


def test_augmentation_is_tried_with_and_without_where_it_is_asked_for():
    space = space_of(replace(FACTS, augment="swap"))
    (dimension,) = [one for one in space.dimensions if one.name == "augment"]
    assert dimension.values == ("", "swap")
    assert recipe_changes({"method": "full", "augment": ""}, defaults)["augment"] is None
