"""The robustness curve: what share of answers stays the same, and stays right, as more words are noisy."""

from xml.etree import ElementTree

import pytest

from llmos.abi.error import BadInput
from llmos.data.row import TagRow
from llmos.suites.curve import curve_svg
from llmos.suites.page import section
from llmos.suites.robustness import LEVELS, NoisyRow, interval, judge_robustness, plan_robustness
from llmos.suites.rows import as_noisy_rows, noisy_rows

TEXTS = [
    f"please cancel the {thing} number {word}"
    for thing in ("kettle", "blanket", "carpet")
    for word in ("seven", "twelve")
]


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"{text},{'a' if 'kettle' in text else 'b'}\n" for text in TEXTS))
    return noisy_rows(str(file), "classify", {})


def answer(text):
    """One that knows one word, and only as it is spelt."""
    return {"label": "a" if "kettle" in text.split() else "b", "scores": {}}


def test_at_level_0_all_is_clean_and_with_noise_it_gets_worse(rows):
    plan = plan_robustness("classify", rows, ["typo", "keyboard"], (0.0, 0.3, 1.0))
    points = judge_robustness(plan, [answer(one) for one in plan.inputs])
    assert [(one.noise, one.level) for one in points] == [
        (n, level) for n in ("typo", "keyboard") for level in (0.0, 0.3, 1.0)
    ]
    for clean, some, all_words in (points[:3], points[3:]):
        assert (clean.agreement, clean.accuracy, clean.changed, clean.rows) == (1.0, 1.0, 0, 6)
        assert some.changed > 0
        assert all_words.changed == 6
        assert (all_words.agreement, all_words.accuracy) == (4 / 6, 4 / 6)


def test_a_curve_is_the_same_for_a_seed_and_takes_so_many_rows(rows):
    again = [plan_robustness("classify", rows, seed=3, most=4).inputs for _ in range(2)]
    assert again[0] == again[1]
    plan = plan_robustness("classify", rows, most=4)
    assert len(plan.rows) == 4
    assert len(plan.points) == 3 * len(LEVELS)


def test_spans_are_right_where_they_have_moved_to():
    row = TagRow({"tokens": ["yesterday", "wonderful", "Olga", "left"]}, ("O", "O", "B-PER", "O"), "x", 1)
    plan = plan_robustness("tag", as_noisy_rows([row], "tag"), ["ocr"], (0.0, 0.9))

    def find(text):
        start = len(" ".join(text.split()[:2])) + 1
        return {"spans": [{"text": "", "label": "PER", "start": start, "end": text.rindex(" "), "score": 1.0}]}

    points = judge_robustness(plan, [find(one) for one in plan.inputs])
    assert [(one.agreement, one.accuracy) for one in points] == [(1.0, 1.0)] * 2


def test_texts_without_labels_have_agreement_alone(rows):
    plan = plan_robustness("classify", [NoisyRow(one.form) for one in rows], ["typo"], (0.0, 0.3))
    points = judge_robustness(plan, [answer(one) for one in plan.inputs])
    assert [one.accuracy for one in points] == [None, None]
    assert "agreement by noise" in curve_svg(points)


def test_the_interval_holds_the_share_and_narrows_with_rows():
    low, high = interval(90, 100)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)  # as published tables have it
    assert interval(900, 1000)[0] > low
    assert interval(5, 5)[1] == 1.0
    assert interval(0, 5)[0] == 0.0


def test_the_drawing_is_svg_with_a_line_for_each_noise_and_stands_in_the_page(rows):
    plan = plan_robustness("classify", rows)
    points = judge_robustness(plan, [answer(one) for one in plan.inputs])
    root = ElementTree.fromstring(curve_svg(points))
    lines = [one for one in root.iter() if one.tag.endswith("polyline")]
    assert len(lines) == 3
    assert all(len(one.get("points").split()) == len(LEVELS) for one in lines)
    xs = [float(pair.split(",")[0]) for pair in lines[0].get("points").split()]
    assert xs == sorted(xs)
    assert "<svg" in section([], points)


def test_what_cannot_be_measured_is_said(rows, tmp_path):
    with pytest.raises(BadInput) as unknown:
        plan_robustness("classify", rows, ["tpyo"])
    assert unknown.value.detail["value"] == "tpyo"
    with pytest.raises(BadInput):
        plan_robustness("classify", [])
