"""What a calibration changes in answers: scores, conformal sets, and answers that are withheld."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from llmos.abi.error import BadInput
from llmos.abi.wire import to_json
from llmos.tasks import Rendered, Settings, task
from llmos.tasks.calibration import FILE, Calibration, load_calibration
from llmos.tasks.classify import softmax, surety
from llmos.tasks.tag import Words
from llmos.tasks.zeroshot import zero_shot

NONE = Rendered([])
MADE = Calibration(
    2.0, 500, risks=((0.01, 3.0), (0.05, 1.0), (0.2, -1e9)), coverages=((0.8, 0.6), (0.9, 0.3), (0.95, 0.05))
)
SURE, DOUBTFUL = [0.0, 0.0, 4.0], [0.0, 0.2, 0.5]


def model(calibration: Calibration | None, **options: object) -> Settings:
    return Settings(("a", "b", "c"), dict(options), 16, calibration)


def ask(logits: list[float], calibration: Calibration | None = MADE, **params: object) -> dict[str, object]:
    answer: dict[str, object] = task("classify").parse(logits, NONE, model(calibration), dict(params))
    return answer


def test_scores_are_those_of_the_tempered_logits() -> None:
    scores = ask(SURE)["scores"]
    assert scores == pytest.approx(dict(zip("abc", softmax([0.0, 0.0, 2.0]), strict=True)))
    assert ask(SURE, None)["score"] == pytest.approx(softmax(SURE)[2])
    assert ask(SURE).keys() == ask(SURE, None).keys() == {"label", "score", "scores"}


def test_an_answer_that_is_too_unsure_is_withheld_where_the_call_asks() -> None:
    kept, withheld = ask(SURE, abstain=0.05), ask(DOUBTFUL, abstain=0.05)
    assert (kept["label"], kept["abstained"]) == ("c", False)
    assert (withheld["label"], withheld["abstained"]) == (None, True)
    assert withheld["score"] == ask(DOUBTFUL)["score"]
    assert ask(DOUBTFUL, abstain=0.2)["label"] == "c"
    assert ask([0.0, 0.0, 3.0], abstain=0.07)["label"] == "c"  # kept by the promise of 0.05, which is stricter
    assert ask([0.0, 0.0, 3.0], abstain=0.04)["label"] is None


def test_a_model_that_was_trained_to_abstain_does_so_unless_the_call_says_false() -> None:
    own = Calibration(1.0, 500, risks=MADE.risks, abstain=0.05)
    assert ask(DOUBTFUL, own)["abstained"] is True
    assert ask(DOUBTFUL, own, abstain=False).keys() == {"label", "score", "scores"}
    broken = Calibration(1.0, 500, abstain=0.05, why_not="500 rows do not suffice")
    assert ask(DOUBTFUL, broken)["label"] == "c"


@pytest.mark.parametrize(
    ("calibration", "params", "said"),
    [
        (None, {"abstain": 0.05}, "was not. Train it again"),
        (None, {"coverage": 0.9}, "was not. Train it again"),
        (MADE, {"abstain": 0.005}, "500 validation rows suffice to promise 0.01 at least"),
        (MADE, {"coverage": 0.99}, "suffice to promise 0.95 at most"),
        (Calibration(), {"abstain": 0.1}, "promise no such share. Train it with more"),
        (Calibration(), {"coverage": 0.1}, "promise no such share. Train it with more"),
        (MADE, {"abstain": 5}, "over 0 and under 1"),
        (MADE, {"coverage": True}, "over 0 and under 1"),
    ],
)
def test_the_sentence_about_a_promise_that_cannot_be_made_has_a_way_out(
    calibration: Calibration | None, params: dict[str, object], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        ask(SURE, calibration, **params)


def test_a_set_has_every_label_that_is_likely_enough_and_never_none() -> None:
    assert ask(SURE, coverage=0.9)["set"] == ["c"]
    assert ask(DOUBTFUL, coverage=0.9)["set"] == ["c", "b"]
    assert ask(DOUBTFUL, coverage=0.95)["set"] == ["c", "b", "a"]
    assert ask(DOUBTFUL, coverage=0.5)["set"] == ["c"]  # none reaches 0.6, so the likeliest stands alone


def test_a_label_under_its_threshold_is_withheld() -> None:
    precise = Calibration(1.0, 500, precision=0.95, thresholds={"a": 0.5, "b": 0.5, "c": 0.6})
    assert ask(DOUBTFUL, precise)["label"] is None
    assert ask(SURE, precise) == {**ask(SURE, Calibration()), "abstained": False}


def test_several_labels_are_withheld_together_and_given_by_their_thresholds() -> None:
    many = model(Calibration(2.0, 500, risks=MADE.risks, thresholds={"a": 0.9}), multi_label=True)
    classify = task("classify")
    assert classify.parse([2.0, 2.0, -2.0], NONE, many, {})["labels"] == ["b"]
    assert classify.parse([2.0, 2.0, -2.0], NONE, many, {"threshold": 0.5})["labels"] == ["a", "b"]
    assert classify.parse([2.0, 2.0, -0.5], NONE, many, {"abstain": 0.05}) == {
        **classify.parse([2.0, 2.0, -0.5], NONE, many, {}),
        "labels": [],
        "abstained": True,
    }
    with pytest.raises(BadInput) as refused:
        classify.parse([2.0, 2.0, -2.0], NONE, many, {"abstain": 0.05, "threshold": 0.4})
    assert refused.value.detail["key"] == "threshold"
    with pytest.raises(BadInput) as refused:
        classify.parse([2.0, 2.0, -2.0], NONE, many, {"coverage": 0.9})
    assert refused.value.detail["key"] == "coverage"


def test_surety_is_the_log_odds_of_the_label() -> None:
    share = softmax(DOUBTFUL)[2]
    assert surety(DOUBTFUL, model(None)) == pytest.approx(math.log(share / (1 - share)))
    assert surety([-3.0, 0.5, 2.0], model(None, multi_label=True)) == 0.5


def test_spans_of_a_tagger_have_tempered_scores() -> None:
    words = Words("Ada", ((0, 3),), (0,))
    tags = Settings(("O", "B-PER"), {}, 16, Calibration(4.0, 100))
    (span,) = task("tag").parse([[0.0, 4.0]], Rendered([], words), tags, {})["spans"]
    assert span["score"] == pytest.approx(softmax([0.0, 1.0])[1])


def test_a_base_that_takes_labels_with_the_call_promises_nothing() -> None:
    with pytest.raises(BadInput) as refused:
        zero_shot("minilm:1", {"labels": ["a", "b"], "abstain": 0.1})
    assert refused.value.detail["key"] == "abstain"


def test_a_calibration_is_read_from_the_models_folder(tmp_path: Path) -> None:
    assert load_calibration(tmp_path) is None
    (tmp_path / FILE).write_bytes(to_json(MADE))
    assert load_calibration(tmp_path) == MADE
    (tmp_path / FILE).write_bytes(b'{"temperature": 0}')
    with pytest.raises(BadInput) as refused:
        load_calibration(tmp_path)
    assert refused.value.detail["key"] == "temperature"
    (tmp_path / FILE).write_bytes(b'{"temperature": "warm"}')
    with pytest.raises(BadInput):
        load_calibration(tmp_path)
