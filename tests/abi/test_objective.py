"""Objectives on preferences: each is declared in a file, and a recipe's is checked before anything starts."""

from __future__ import annotations

import pytest

from llmos.abi.error import BadSetting
from llmos.abi.objective import objective_named, objective_names, objective_settings, primary_metric_of
from llmos.abi.recipe import Recipe, check, recipe_of
from llmos.sdk import request
from llmos.testing.errors import fails_with


def recipe(**more: object) -> Recipe:
    return recipe_of({"task": "chat", "name": "n", "base": "b", "data": {"train": "/rows.jsonl"}, **more})


def test_every_objective_has_a_paper_settings_and_a_metric() -> None:
    assert objective_names() == ("dpo", "kto", "orpo")
    for name in objective_names():
        spec = objective_named(name)
        assert "arXiv" in spec.source
        assert spec.rows
        assert spec.values({})["beta"] == 0.1
    assert {"beta", "nll_weight", "desirable_weight"} <= objective_settings()


def test_an_objective_that_needs_a_frozen_base_takes_no_method_that_changes_it() -> None:
    check(recipe(options={"objective": "dpo"}))
    check(recipe(options={"objective": "orpo"}, method="full"))
    with fails_with(BadSetting, key="method"):
        check(recipe(options={"objective": "kto"}, method="full"))


def test_the_client_gives_settings_to_the_objective() -> None:
    made = request.recipe("chat", "n", None, __file__, {"objective": "dpo", "beta": 0.3})
    assert (made.options, made.objective_settings, made.method) == ({"objective": "dpo"}, {"beta": 0.3}, "auto")
    check(made)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"options": {"objective": "ppo"}}, "objective"),
        ({"options": {"objective": "dpo"}, "objective_settings": {"beta": 0}}, "beta"),
        ({"options": {"objective": "orpo"}, "objective_settings": {"smoothing": 0.1}}, "smoothing"),
        ({"objective_settings": {"beta": 0.1}}, "beta"),
        ({"task": "classify", "options": {"objective": "dpo"}}, "objective"),
        ({"options": {"preferences": "some"}}, "preferences"),
    ],
)
def test_a_recipe_with_a_wrong_objective_is_refused(more: dict[str, object], key: str) -> None:
    with fails_with(BadSetting, key=key):
        check(recipe(**more))


def test_the_objective_decides_the_metric_that_decides() -> None:
    assert primary_metric_of("chat", {}) == "likelihood"
    assert primary_metric_of("chat", {"objective": "dpo"}) == "reward_accuracy"
    assert primary_metric_of("chat", {"objective": "orpo"}) == "preference_accuracy"
