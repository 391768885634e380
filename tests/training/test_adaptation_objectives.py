"""Objectives of adaptation: which tokens are hidden, and which texts are each other's negatives."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.tasks import Rendered

pytestmark = pytest.mark.torch

FIRST, MASK = 1000, 7


def masking(share: float = 0.15):
    from llmos.nn.windows import Frame
    from llmos.training.adaptation.masked import Masking

    return Masking(share, MASK, 500, Frame((1,), (2,)))


@given(st.integers(2, 200), st.integers(0, 5))
def test_a_share_of_the_text_s_own_tokens_is_to_be_guessed(size: int, seed: int):
    ids = [1, *range(FIRST, FIRST + size), 2]
    one = masking().draw(ids, random.Random(seed))
    assert len(one.target.places) == masking().count(len(ids)) == max(1, round(0.15 * size))
    assert [ids[at] for at in one.target.places] == list(one.target.tokens)
    assert set(one.target.places) <= set(range(1, size + 1))
    others = set(range(len(ids))) - set(one.target.places)
    assert all(one.ids[at] == ids[at] for at in others)


def test_eight_of_ten_are_hidden_one_is_replaced_and_one_stays():
    ids, counts, chance = [1, *range(FIRST, FIRST + 100), 2], Counter(), random.Random(3)
    for _ in range(400):
        one = masking().draw(ids, chance)
        for at, token in zip(one.target.places, one.target.tokens, strict=True):
            counts["hidden" if one.ids[at] == MASK else "kept" if one.ids[at] == token else "replaced"] += 1
    total = sum(counts.values())
    shares = {name: count / total for name, count in counts.items()}
    assert shares == pytest.approx({"hidden": 0.8, "replaced": 0.1, "kept": 0.1}, abs=0.03)


def test_rounds_of_a_measurement_guess_every_token_once_and_the_same_ones_again():
    ids = [1, *range(FIRST, FIRST + 20), 2]
    first, again = (masking().each_in_turn(ids, 100, "seed") for _ in range(2))
    assert sorted(at for one in first for at in one.target.places) == list(range(1, 21))
    assert [one.ids for one in first] == [one.ids for one in again]


def test_examples_are_masked_anew_by_the_generator_that_a_step_seeds():
    import torch

    from llmos.training.adaptation.masked import MaskedExamples

    made = MaskedExamples([[1, *range(FIRST, FIRST + 60), 2]], masking())
    torch.manual_seed(1)
    first, second = made[0], made[0]
    torch.manual_seed(1)
    assert made[0] == first
    assert first.target.places != second.target.places


def views(numbers: list[tuple[int, int]]) -> list:
    from llmos.training.adaptation.contrastive import ViewTarget
    from llmos.training.examples import Example

    return [Example(Rendered([1], parts=([1], [2])), ViewTarget(a, b)) for a, b in numbers]


def test_the_contrastive_loss_is_the_cross_entropy_of_cosines_over_the_temperature():
    import torch

    from llmos.training.adaptation.contrastive import TEMPERATURE, InBatchLoss

    torch.manual_seed(0)
    given = torch.randn(8, 6)
    firsts, seconds = (torch.nn.functional.normalize(one, dim=-1) for one in (given[::2], given[1::2]))
    wanted = torch.nn.functional.cross_entropy(firsts @ seconds.T / TEMPERATURE, torch.arange(4), reduction="sum")
    assert torch.allclose(InBatchLoss()(given, views([(i, 10 + i) for i in range(4)])), wanted, atol=1e-5)


def test_equal_texts_are_no_negatives():
    import torch

    from llmos.training.adaptation.contrastive import InBatchLoss

    given = torch.nn.functional.normalize(torch.ones(4, 3), dim=-1)  # all the same: log 2 for each, if apart
    apart, same = InBatchLoss()(given, views([(0, 1), (2, 3)])), InBatchLoss()(given, views([(0, 1), (2, 1)]))
    assert float(apart) == pytest.approx(2 * 0.6931, abs=1e-3)
    assert float(same) == pytest.approx(0.0, abs=1e-6)


def test_shorter_lengths_count_as_much_as_the_whole():
    import torch

    from llmos.training.adaptation.contrastive import InBatchLoss

    torch.manual_seed(0)
    given, examples = torch.randn(6, 8), views([(i, 10 + i) for i in range(3)])
    short, whole = InBatchLoss()(given[:, :4], examples), InBatchLoss()(given, examples)
    assert torch.allclose(InBatchLoss([4])(given, examples), (short + whole) / 2, atol=1e-5)
