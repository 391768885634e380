"""Slices: what parts the rows, and the worst slice, which is found where there is one and not where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from llmos.abi.row_outcome import RowOutcome
from llmos.evaluation.slices.facets import facets_of
from llmos.evaluation.slices.worst import LEAST_ROWS, bounds, worst_slice

WORDS = [f"word{i}" for i in range(60)]


def outcome(text: str, label: str = "a", file: str = "rows.csv") -> RowOutcome:
    return RowOutcome(0, "", file, 1, (text,), label, label, 1.0, labels=(label,))


def random_texts(generator: np.random.Generator, rows: int) -> list[tuple[str, ...]]:
    return [(" ".join(generator.choice(WORDS, 8)),) for _ in range(rows)]


def test_rows_are_parted_by_label_length_file_and_every_column() -> None:
    outcomes = [outcome("x" * (10 * i + 1), "ab"[i % 2], f"/data/{'cd'[i % 2]}.csv") for i in range(8)]
    extras = [{"channel": "app" if i < 4 else "mail", "price": 1.5 * i, "same": "s"} for i in range(8)]
    found = facets_of(outcomes, extras).values
    assert found[0]["label"] == ("a",)
    assert found[1]["source"] == ("d.csv",)
    assert (found[0]["channel"], found[7]["channel"]) == (("app",), ("mail",))
    assert (found[0]["length"], found[7]["length"]) == (("at most 11 characters",), ("over 51 characters",))
    assert "same" not in found[0]


def test_numbers_are_parted_in_quarters_and_texts_not_at_all() -> None:
    outcomes = [outcome("x")] * 400
    extras = [{"price": i / 2, "comment": f"says {i}", "gap": None if i % 2 else i} for i in range(400)]
    facets = facets_of(outcomes, extras)
    assert {row["price"][0] for row in facets.values} == {"at most 49.5", "49.5 to 99.5", "99.5 to 149.5", "over 149.5"}
    assert facets.left_out == {"comment": "400 different values"}
    assert [i for i, row in enumerate(facets.values) if "gap" in row] == list(range(0, 400, 2))


def test_a_planted_slice_is_found_by_its_pair_of_conditions() -> None:
    generator = np.random.default_rng(3)
    texts = random_texts(generator, 4000)
    channel = generator.choice(["app", "mail", "phone"], 4000)
    facets = [{"channel": (str(one),)} for one in channel]
    planted = np.array(["word7" in text[0].split() for text in texts]) & (channel == "mail")
    scores = (generator.random(4000) < np.where(planted, 0.4, 0.93)).astype(float)
    found = worst_slice(scores.tolist(), facets, texts)
    assert found is not None
    assert set(found.conditions) == {("channel", "mail"), ("word", "word7")}
    assert found.is_shown
    assert found.rows == int(planted.sum())
    assert found.low < 0.4 < found.high < found.overall


def test_of_random_errors_no_slice_is_shown_to_be_worse() -> None:
    shown = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        texts = random_texts(generator, 300)
        facets = [{"channel": (str(one),)} for one in generator.choice(["app", "mail"], 300)]
        scores = (generator.random(300) < 0.8).astype(float)
        found = worst_slice(scores.tolist(), facets, texts)
        assert found is not None
        assert found.rows >= LEAST_ROWS
        shown += found.is_shown
    assert shown <= 1


def test_a_few_rows_are_no_slice() -> None:
    texts = [("rare word",)] * 3 + [("other thing",)] * 30
    found = worst_slice([0.0] * 3 + [1.0] * 30, [{}] * 33, texts)
    assert found is None or "rare" not in found.name
    assert worst_slice([0.0, 1.0], [{}, {}], [("a",), ("b",)]) is None


def test_one_condition_is_named_where_a_second_adds_nothing() -> None:
    generator = np.random.default_rng(5)
    texts = random_texts(generator, 2000)
    bad = np.array(["word3" in text[0].split() for text in texts])
    scores = (generator.random(2000) < np.where(bad, 0.3, 0.95)).astype(float)
    found = worst_slice(scores.tolist(), [{"half": (str(i % 2),)} for i in range(2000)], texts)
    assert found is not None
    assert found.conditions == (("word", "word3"),)


def test_bounds_of_shares_are_exact_and_those_of_scores_wider() -> None:
    counts, sums = np.array([20.0]), np.array([20.0])
    low, high = bounds(counts, sums, sums, 0.05, is_binary=True)
    assert high[0] == 1.0
    assert low[0] == pytest.approx(0.025 ** (1 / 20))
    wide = bounds(np.array([200.0]), np.array([150.0]), np.array([150.0]), 0.05, is_binary=False)
    exact = bounds(np.array([200.0]), np.array([150.0]), np.array([150.0]), 0.05, is_binary=True)
    assert wide[0][0] < exact[0][0] < exact[1][0] < wide[1][0]
