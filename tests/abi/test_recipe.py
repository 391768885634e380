"""Recipes: what identifies one."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from llmos.abi.recipe import Data, Recipe, identity_of

RECIPE = Recipe(task="classify", name="n", base="b", data=Data("x"), method="full")
DIGEST = "18ee2ba2c7e8dbf9a1be81ab2d73d5dea9a85a25fe9162d15e32670a5ec891a3"  # of this recipe, in version 0.1


def test_a_recipe_is_identified_as_earlier_versions_did() -> None:
    """A checkpoint resumes only with the recipe that it was written with; settings that came later are at defaults."""
    assert hashlib.sha256(identity_of(RECIPE)).hexdigest() == DIGEST


def test_a_setting_that_came_later_counts_where_it_is_set() -> None:
    skipping = replace(RECIPE, data=replace(RECIPE.data, on_bad_row="skip"))
    assert identity_of(skipping) != identity_of(RECIPE)
