"""classify with labels that the call brings: what it takes, how labels become texts, what is answered."""

from __future__ import annotations

from array import array

import pytest

from llmos.abi.error import BadInput, WrongTask
from llmos.tasks import Settings
from llmos.tasks.classify import refuse_labels
from llmos.tasks.zeroshot import MOST_LABELS, describe_labels, label_sentence, zero_shot
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import PieceTokenizer

SETTINGS = Settings((), {}, 32)


def vector(*numbers: float) -> bytes:
    return array("f", numbers).tobytes()


def test_the_nearest_label_is_the_answer_and_the_shares_are_of_one() -> None:
    task = zero_shot("base:1", {"labels": ["money", "parcel", "hours"]})
    rendered, other = task.render([{"text": "where is it"}, {"text": "x"}], PieceTokenizer(), SETTINGS)
    assert len(rendered.parts) == 4
    assert all(a is b for a, b in zip(rendered.parts[1:], other.parts[1:], strict=True))
    raw = [vector(1, 0), vector(0.6, 0.8), vector(0.8, 0.6), vector(0, 1)]
    answer = task.parse(raw, rendered, SETTINGS, {})
    assert (answer["label"], list(answer["scores"])) == ("parcel", ["parcel", "money", "hours"])
    assert answer["score"] == answer["scores"]["parcel"]
    assert sum(answer["scores"].values()) == pytest.approx(1)
    assert list(task.parse(raw, rendered, SETTINGS, {"top_k": 1})["scores"]) == ["parcel"]


def test_a_label_is_read_as_its_words_its_description_or_in_a_sentence() -> None:
    assert describe_labels(["card_arrival", "top up"]) == {"card_arrival": "card arrival", "top up": "top up"}
    assert describe_labels({"a": "about_money", "b": "else"}) == {"a": "about_money", "b": "else"}
    assert label_sentence("money", {"hypothesis": "This text is about {}."}) == "This text is about money."
    assert label_sentence("money", {}) == "money"


@pytest.mark.parametrize(
    ("params", "key", "detail"),
    [
        ({"labels": "money"}, "labels", {"limit": MOST_LABELS, "value": "'money'"}),
        ({"labels": ["money"]}, "labels", {"limit": MOST_LABELS}),
        ({"labels": [str(i) for i in range(MOST_LABELS + 1)]}, "labels", {"limit": MOST_LABELS}),
        ({"labels": ["money", " "]}, "labels", {"value": "' '"}),
        ({"labels": ["money", 3]}, "labels", {"value": "3"}),
        ({"labels": ["money", ["a"]]}, "labels", {"value": "['a']"}),
        ({"labels": ["money", "money"]}, "labels", {"reason": "twice"}),
        ({"labels": {"a": "x", "b": None}}, "labels", {"value": "{'b': None}"}),
        ({"labels": ["a", "b"], "hypothesis": "about"}, "hypothesis", {"value": "'about'"}),
        ({"labels": ["a", "b"], "hypothesis": 3}, "hypothesis", {"value": "3"}),
    ],
)
def test_labels_that_cannot_be_are_named(params: dict[str, object], key: str, detail: dict[str, object]) -> None:
    with fails_with(BadInput, key=key, **detail):
        zero_shot("base:1", params)


def test_without_labels_there_are_two_ways_on() -> None:
    with fails_with(WrongTask, model="base:1", task="classify"):
        zero_shot("base:1", {})


def test_a_model_with_labels_takes_no_others() -> None:
    refuse_labels("tickets:1", ("a", "b"), {"top_k": 2})
    with fails_with(BadInput, key="labels", model="tickets:1"):
        refuse_labels("tickets:1", ("a", "b"), {"labels": ["c", "d"]})
