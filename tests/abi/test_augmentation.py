"""Settings of augmentation: names, bounds, and that a recipe without it is the recipe that it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmos.abi.augmentation import AUGMENTERS, Augmentation, check_augmentation, names_in
from llmos.abi.error import BadSetting
from llmos.abi.recipe import Data, Recipe, augmentation_of, check, identity_of
from llmos.testing.errors import fails_with

RECIPE = Recipe(task="classify", name="n", base="b", data=Data("/x"))


def test_names_stand_between_commas_each_once():
    assert names_in(" swap, delete,swap,") == ("swap", "delete")
    assert names_in(None) == names_in("") == ()
    assert names_in("auto") == ("auto",)


@pytest.mark.parametrize("value", ["sawp", "swap,no", "auto,swap"])
def test_a_name_that_there_is_not_is_refused(value: str):
    with fails_with(BadSetting, key="augment"):
        names_in(value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("copies", 0), ("copies", 17), ("share", 0.0), ("share", 1.1), ("strength", 0.0), ("strength", float("nan"))],
)
def test_a_number_out_of_its_bounds_is_refused_by_the_name_of_its_setting(key: str, value: float):
    with fails_with(BadSetting, key=key):
        check_augmentation(replace(Augmentation(("swap",)), **{key: value}))
    with fails_with(BadSetting, key=f"augment_{key}"):
        check(replace(RECIPE, **{f"augment_{key}": value}))


def test_a_recipe_with_augmentation_is_another_one():
    others = [replace(RECIPE, augment="swap"), replace(RECIPE, balance=True), replace(RECIPE, augment_copies=2)]
    assert len({identity_of(one) for one in (RECIPE, *others)}) == 4
    assert not augmentation_of(RECIPE)
    assert all(map(augmentation_of, others[:2]))


def test_every_augmenter_says_what_it_does():
    assert all(spec.about and not spec.about.endswith(".") for spec in AUGMENTERS.values())
