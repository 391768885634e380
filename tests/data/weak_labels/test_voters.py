"""Voters without a model: which texts they vote on, and patterns that would never end."""

from __future__ import annotations

from typing import Any

import pytest

from llmos.abi.error import BadInput
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow
from llmos.data.weak_labels.reading import read_rules
from llmos.data.weak_labels.time_limit import interruptible
from llmos.data.weak_labels.voters import ABSTAIN, ColumnVoter, light_voter

LABELS = {"a": 0, "b": 1}


def rows(*texts: str, **extra: Any) -> list[StoredRow[Any]]:
    return [StoredRow(f"{at:016x}", LabelRow({"text": text}, (), "f", at), extra) for at, text in enumerate(texts)]


def votes(rule: str, *texts: str) -> list[int]:
    (one,) = read_rules(f"rules:\n  - {rule}\n", "rules.yaml").rules
    with interruptible():
        return light_voter(one, LABELS, "rules.yaml").votes(rows(*texts))


def test_keywords_are_whole_words_in_any_case() -> None:
    said = votes(
        "{label: b, keywords: [cup, 'world series', terror*]}", "The CUP.", "cupboard", "World  Series!", "series"
    )
    assert said == [1, ABSTAIN, 1, ABSTAIN]
    assert votes("{label: b, keywords: [terror*]}", "Terrorists", "a terror", "terra") == [1, 1, ABSTAIN]


def test_keywords_of_scripts_without_spaces_are_found_within_a_sentence() -> None:
    assert votes("{label: a, keywords: [很好, café]}", "酒店很好。", "很 不好", "a CAFÉ here") == [0, ABSTAIN, 0]


def test_patterns_are_searched_as_they_are() -> None:
    assert votes(r"{label: a, pattern: '\b\d+-\d+\b'}", "won 3-1", "won 3 to 1") == [0, ABSTAIN]
    assert votes("{label: a, pattern: '^(?!.*good)'}", "good", "bad") == [ABSTAIN, 0]


def test_a_pattern_that_never_ends_is_stopped_and_named() -> None:
    with pytest.raises(BadInput) as caught:
        votes("{name: slow, label: a, pattern: '(a+)+b'}", "fine", "a" * 60)
    detail = caught.value.detail
    assert (detail["rule"], detail["line"], detail["reason"], detail["row"]) == ("slow", 2, "too_slow", f"{1:016x}")


def test_a_column_votes_for_labels_and_translated_values_and_counts_others() -> None:
    (rule,) = read_rules("rules:\n  - {column: kind, labels: {One: a}}\n", "rules.yaml").rules
    voter = light_voter(rule, LABELS, "rules.yaml")
    assert isinstance(voter, ColumnVoter)
    some = [*rows("x", kind="One"), *rows("x", kind="b"), *rows("x", kind="Misc"), *rows("x"), *rows("x", kind=None)]
    assert voter.votes(some) == [0, 1, ABSTAIN, ABSTAIN, ABSTAIN]
    assert voter.strays == {"Misc": 1}
