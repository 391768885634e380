"""Contrastive training: pairs of one label, every label as often; the loss falls as texts of a label come together."""

from __future__ import annotations

from collections import Counter

import pytest

from llmos.tasks import Rendered

pytestmark = pytest.mark.torch


def examples(labels: list[int]) -> list:
    from llmos.training.examples import Example
    from llmos.training.objectives.labels import LabelTarget

    return [Example(Rendered([i, label]), LabelTarget([label])) for i, label in enumerate(labels)]


def test_pairs_are_as_many_as_asked_and_labels_come_alike_often():
    from llmos.training.contrastive import draw_pairs

    pairs = draw_pairs(examples([0] * 90 + [1] * 9 + [2]), 30, seed=1)
    assert Counter(one.target.label for one in pairs) == {0: 10, 1: 10, 2: 10}
    assert all(ids[1] == one.target.label for one in pairs for ids in one.sequences)


def test_the_same_seed_draws_the_same_pairs():
    from llmos.training.contrastive import draw_pairs

    first, again = (draw_pairs(examples([0, 0, 0, 1, 1, 1]), 20, seed=4) for _ in range(2))
    assert [one.sequences for one in first] == [one.sequences for one in again]


def test_the_loss_is_less_where_texts_of_a_label_are_near():
    import torch

    from llmos.training.contrastive import ContrastiveLoss, draw_pairs

    pairs = draw_pairs(examples([0, 0, 1, 1]), 2, seed=0)
    labels = [one.target.label for one in pairs for _ in one.sequences]
    near = torch.eye(2)[labels]
    mixed = torch.eye(2)[[0, 1, 0, 1]]
    loss = ContrastiveLoss()
    assert float(loss(near, pairs)) < float(loss(mixed, pairs))
    assert loss.normalizer(pairs) == 4


@pytest.mark.parametrize(("method", "rate"), [("full", 1e-4), ("lora", 3e-4)])
def test_pairs_are_learned_at_a_lower_rate_than_a_method_has_else(method: str, rate: float):
    from llmos.abi.recipe import Data, Recipe
    from llmos.training.contrastive import contrastive_recipe
    from llmos.training.recipe import resolve

    recipe = resolve(Recipe("classify", "n", "tiny:1", Data("rows.csv"), method=method), 100, 2)
    assert contrastive_recipe(recipe).learning_rate == pytest.approx(rate)
    assert recipe.learning_rate is not None
    assert rate <= recipe.learning_rate
