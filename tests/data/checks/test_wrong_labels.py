"""Wrong labels are found by confident learning, at least as well as by cleanlab on the same predictions."""

from __future__ import annotations

import numpy as np
import pytest
from checked_rows import labelled, tagged

from llmos.abi.error import BadInput
from llmos.data.checks.confident_learning import label_issues
from llmos.data.checks.labels import agreement_of, suspects_of, whole_tags
from llmos.data.checks.mending import check_relabel, plan, relabel_row
from llmos.data.checks.subject import Predictions
from llmos.testing.errors import fails_with


def planted(rows=2000, classes=5, noise=0.1, sharpness=2.5, seed=0):
    """Given labels, which of them are wrong, and probabilities of a fair model."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, classes, rows)
    is_wrong = draw.random(rows) < noise
    given = np.where(is_wrong, (true + draw.integers(1, classes, rows)) % classes, true)
    logits = draw.normal(size=(rows, classes)) + sharpness * np.eye(classes)[true]
    exact = np.exp(logits)
    return given, is_wrong, exact / exact.sum(axis=1, keepdims=True)


def f1(chosen, is_wrong):
    hits = is_wrong[chosen].sum()
    return 2 * hits / (len(chosen) + is_wrong.sum())


@pytest.mark.parametrize("seed", range(3))
def test_planted_errors_are_found_as_well_as_by_cleanlab(seed):
    cleanlab = pytest.importorskip("cleanlab.filter")
    given, is_wrong, probabilities = planted(seed=seed)
    ours = f1(label_issues(given, probabilities).places, is_wrong)
    theirs = f1(np.flatnonzero(cleanlab.find_label_issues(given, probabilities, n_jobs=1)), is_wrong)
    assert ours >= theirs


def test_the_worst_come_first_and_sound_labels_are_left_alone():
    given, is_wrong, probabilities = planted()
    found = label_issues(given, probabilities)
    assert list(found.margins) == sorted(found.margins, reverse=True)
    assert is_wrong[found.places[:50]].mean() > 0.9
    assert not (found.suggested == given[found.places]).any()


def test_labels_without_an_error_give_few_suspects():
    given, _, probabilities = planted(noise=0.0, sharpness=12.0)
    assert len(label_issues(given, probabilities).places) == 0


def test_a_row_of_several_labels_is_asked_about_each():
    rows = labelled("train", [("text", "a")] * 60)
    given = np.tile([1.0, 0.0], (60, 1))
    given[:30] = [0.0, 1.0]
    probabilities = np.where(given == 1, 0.95, 0.05)
    given[0] = [1.0, 1.0]
    (one,) = suspects_of(Predictions(("a", "b"), [(row, 0) for row in rows], given, probabilities))
    assert (one.row_id, one.given, one.suggestion) == ("train0", "a|b", "b")


def test_the_agreement_is_the_share_of_labels_that_the_other_rows_give_too():
    one = Predictions(
        ("a", "b"), [], np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    )
    many = Predictions(("a", "b"), [], np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.1], [0.9, 0.1]]))
    assert (agreement_of(one), agreement_of(many)) == (0.75, 0.75)


def test_a_wrong_tag_is_named_by_its_word_and_the_suggestion_is_whole():
    rows = tagged([("Ada lives in Paris", "B-PER O O B-LOC")] * 30 + [("Bob lives in Rome", "B-PER O O O")])
    names = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    places = [(row, word) for row in rows for word in range(4)]
    given = np.array([names.index(row.row.tags[word]) for row, word in places])
    truth = np.tile([3, 0, 0, 1], 31)
    probabilities = np.full((len(places), 5), 0.01)
    probabilities[np.arange(len(places)), truth] = 0.96
    (one,) = suspects_of(Predictions(names, places, given, probabilities))
    assert (one.row_id, one.words, one.suggestion) == ("tag30", (3,), "B-PER O O B-LOC")
    assert relabel_row(rows[30], one.suggestion).row.tags == ("B-PER", "O", "O", "B-LOC")


def test_tags_of_a_suggestion_begin_with_b():
    assert whole_tags(["I-PER", "I-PER", "O", "I-LOC"]) == ["B-PER", "I-PER", "O", "B-LOC"]


FINDINGS = [
    {"kind": "leaks", "row_ids": ["a", "b"], "fixes": ["drop"], "sentence": ""},
    {
        "kind": "suspects",
        "row_ids": ["b", "c", "t"],
        "fixes": ["drop", "relabel"],
        "sentence": "",
        "suspects": [
            {"row_id": "b", "suggestion": "x", "score": 0.9},
            {"row_id": "c", "suggestion": "y", "score": 0.4},
            {"row_id": "t", "suggestion": "z", "score": 0.8},
        ],
    },
]


def test_rows_are_dropped_relabelled_or_kept_and_test_rows_keep_their_labels():
    made = plan(FINDINGS, frozenset({"t"}), drop=["leaks"], relabel=["suspects"], keep=["a"])
    assert dict(made.dropped) == {"b": "leaks"}
    assert dict(made.relabelled) == {"c": "y"}
    assert made.kept == {"leaks": ("a",)}
    assert made.skipped_test_rows == 1


def test_scores_ids_and_a_word_for_test_rows_bound_what_is_relabelled():
    sure = plan(FINDINGS, frozenset({"t"}), relabel=["suspects"], least_score=0.5, with_test=True)
    assert dict(sure.relabelled) == {"b": "x", "t": "z"}
    assert dict(plan(FINDINGS, frozenset(), relabel=["suspects"], only=["c"]).relabelled) == {"c": "y"}


def test_unknown_kinds_and_ids_are_refused():
    with fails_with(BadInput, value="lekas"):
        plan(FINDINGS, frozenset(), drop=["lekas"])
    with fails_with(BadInput, value="nobody"):
        plan(FINDINGS, frozenset(), drop=["leaks"], keep=["nobody"])
    with fails_with(BadInput, value="leaks"):
        check_relabel(["leaks"])
