"""The tally beside the libraries that everybody reports with: the same numbers, and finite where they give none."""

from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.evaluation.counts import ClassCounts, averages, entities, total

TAGS = ("O", "B-A", "I-A", "B-B", "I-B", "B-C", "I-C")
SENTENCES = st.lists(
    st.integers(1, 6).flatmap(
        lambda size: st.tuples(*[st.lists(st.sampled_from(TAGS), min_size=size, max_size=size)] * 2)
    ),
    min_size=1,
    max_size=8,
)
KEYS = (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score"))


@pytest.mark.slow
@given(SENTENCES)
def test_entities_are_counted_as_seqeval_counts_them(pairs: list[tuple[list[str], list[str]]]) -> None:
    from seqeval.metrics import classification_report as seqeval_report

    true, answers = [a for a, _ in pairs], [b for _, b in pairs]
    tally = entities(true, answers)
    assert all(math.isfinite(rate) for rates in averages(tally).values() for rate in rates.values())
    if not total(tally).true:  # seqeval gives no number then, or NaN
        assert total(tally).rates()["recall"] == 0.0
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = seqeval_report(true, answers, output_dict=True, zero_division=0)
    for ours, theirs in KEYS:
        for kind, count in tally.items():
            assert count.rates()[ours] == pytest.approx(report.get(kind, {theirs: 0.0})[theirs])
        assert averages(tally)["micro"][ours] == pytest.approx(report["micro avg"][theirs])
        assert averages(tally)["macro"][ours] == pytest.approx(report["macro avg"][theirs])
        assert averages(tally)["weighted"][ours] == pytest.approx(report["weighted avg"][theirs])


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_classes_are_counted_as_scikit_learn_counts_them(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import classification_report as sklearn_report

    true, answers = [a for a, _ in pairs], [b for _, b in pairs]
    tally = {str(i): ClassCounts(sum(a == b == i for a, b in pairs), answers.count(i), true.count(i)) for i in range(4)}
    report = sklearn_report(true, answers, output_dict=True, zero_division=0.0)  # classes that are neither: left out
    for ours, theirs in KEYS:
        for name, count in tally.items():
            assert count.rates()[ours] == pytest.approx(report.get(name, {theirs: 0.0})[theirs])
        assert averages(tally)["macro"][ours] == pytest.approx(report["macro avg"][theirs])
        assert averages(tally)["weighted"][ours] == pytest.approx(report["weighted avg"][theirs])


def test_nothing_counted_is_zero() -> None:
    assert averages({})["macro"] == averages({})["micro"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
