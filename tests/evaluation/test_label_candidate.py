"""The model that is trained while people label suggests, unless a head on all labels is right more often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow, TagRow
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.families.tags import TagPrediction
from llmos.evaluation.label_candidate import CandidateScore, ask_candidate, measure_candidate
from llmos.evaluation.label_worth import Beliefs, Estimate

pytestmark = pytest.mark.torch
TAGS = ("O", "B-PER", "I-PER")


class Knows:
    """An evaluator whose model reads the label in the text; `a` is twice as likely as `b` where it is `a`."""

    def __init__(self, labels: tuple[str, ...] = ("a", "b"), *, is_many: bool = False) -> None:
        self.labels = labels
        self.is_many = is_many

    def predict(self, rows: Any) -> list[Any]:
        found: list[Any] = []
        for row in rows:
            if isinstance(row, TagRow):
                chances = np.full((len(row.input["tokens"]), 3), 0.1)
                for at, word in enumerate(row.input["tokens"]):
                    chances[at, int(word.istitle())] = 0.8
                found.append(TagPrediction(chances))
            else:
                first = row.texts[0].startswith("a")
                found.append(LabelPrediction(np.array([0.75, 0.25] if first else [0.25, 0.75])))
        return found


def texts(*said: tuple[str, ...], is_multi: bool = False) -> list[StoredRow[Any]]:
    return [
        StoredRow(f"{i:016x}", LabelRow({"text": text}, tuple(labels), "f", i, is_multi))
        for i, (text, *labels) in enumerate(said)
    ]


GAIN = (0.0, 0.1)
HEAD = Beliefs(
    np.zeros((2, 4), np.float32), ("a", "new"), None, (), Estimate("accuracy", 0.5, 0.4, 0.6, 9, "rows", GAIN)
)


def measured(held: Any, evaluator: Any = None, task: str = "classify", **more: Any) -> CandidateScore:
    return measure_candidate(evaluator or Knows(), task, held, is_test=False, **more)


def asked(pool: Any, held: Any, evaluator: Any = None, task: str = "classify") -> Beliefs:
    return ask_candidate(evaluator or Knows(), task, pool, HEAD, measured(held, evaluator, task))


def test_it_says_labels_with_chances_and_how_often_it_was_right():
    done: list[tuple[int, int]] = []
    held = texts(("a", "a"), ("x", "a"), ("y", "new"))
    score = measured(held, on_done=lambda *at: done.append(at))
    assert list(score.right.values()) == [1, 0, 0]
    assert done[-1] == (3, 3)
    found = asked(texts(("a one",), ("two",)), held)
    assert found.labels == ("a", "new", "b")
    assert found.probabilities is not None
    assert found.probabilities.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert [one[0].value for one in found.suggestions] == ["a", "b"]
    assert found.estimate is not None
    assert (found.estimate.value, found.estimate.rows, found.estimate.gain) == (pytest.approx(1 / 3), 3, GAIN)


def test_a_text_of_several_labels_is_right_when_all_of_them_are():
    held = texts(("a", "a"), ("a", "a", "b"), is_multi=True)
    assert list(measured(held).right.values()) == [1, 0]
    assert asked(texts(("a",), is_multi=True), held).suggestions[0][0].value == ["a"]


def test_spans_are_suggested_and_the_least_certain_words_decide():
    pool = [StoredRow("0" * 16, TagRow({"tokens": ["Ada", "lives"]}, (), "f", 1))]
    held = [StoredRow("1" * 16, TagRow({"tokens": ["so", "Bob"]}, ("O", "B-PER"), "f", 1))]
    found = asked(pool, held, Knows(TAGS), "tag")
    assert found.suggestions[0][0].value == [[0, 1, "PER"]]
    assert found.probabilities is not None
    assert found.probabilities.shape == (1, 2)
    assert list(found.right.values()) == [1]


def is_believed(head: list[int], candidate: list[int]) -> bool:
    """Whether the model is, when they were right so often on the same rows."""
    ids = [f"{i}" for i in range(len(head))]
    mine = Beliefs(HEAD.vectors, right=dict(zip(ids, map(float, head), strict=True)))
    return CandidateScore(dict(zip(ids, map(float, candidate), strict=True)), None).is_believed(mine)


def test_the_head_stays_where_it_is_right_more_often():
    assert not is_believed([1] * 10, [0] + [1] * 9)
    assert is_believed([0] + [1] * 9, [1] * 10)
    assert is_believed([1] * 10, [1] * 10)


def test_too_few_rows_to_tell_leave_it_to_the_model():
    assert is_believed([1] * 9, [0] * 9)


def test_a_model_that_was_measured_on_nothing_has_no_estimate():
    assert measured([]).estimate is None


def test_of_many_rows_the_same_thousand_are_measured_in_any_order():
    held = texts(*[(f"a{i}", "a") for i in range(1_200)])
    score = measured(held[::-1])
    assert list(score.right) == sorted(one.id for one in held)[:1_000]
