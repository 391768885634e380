"""Files of rules as people write them: what is read, and what is refused with its line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.data.weak_labels.reading import check_labels, read_rules
from llmos.data.weak_labels.rules import ColumnRule, KeywordRule, ModelRule, PatternRule, ZeroShotRule, labels_of

WHOLE = """
labels: [sports, business]
rules:
  - label: sports
    keywords: [team, 'world cup', olymp*]
  - name: score
    label: sports
    pattern: '\\b\\d+-\\d+\\b'
  - column: section
    labels: {Money: business}
  - model: topics:2
    least: 0.8
  - zero_shot: minilm
    labels:
      sports: news about sports
      business: markets and companies
    hypothesis: 'This is about {}.'
    least: 40%
"""


def test_rules_have_their_kinds_names_lines_and_models() -> None:
    read = read_rules(WHOLE, "rules.yaml")
    words, score, column, model, zero = read.rules
    assert words == KeywordRule("keywords 1", 4, "sports", ("team", "world cup", "olymp*"))
    assert score == PatternRule("score", 6, "sports", r"\b\d+-\d+\b")
    assert column == ColumnRule("column 3", 9, "section", {"Money": "business"})
    assert model == ModelRule("model 4", 11, "topics:2", {}, 0.8)
    assert isinstance(zero, ZeroShotRule)
    assert (zero.base, zero.least, list(zero.labels)) == ("minilm", 0.4, ["sports", "business"])
    assert read.models == ("topics:2", "minilm")
    assert read.labels == ("sports", "business")


def test_json_is_read_as_yaml_is() -> None:
    rules = {"rules": [{"label": "sports", "keywords": ["team"]}, {"label": "business", "pattern": "\\d+ %"}]}
    read = read_rules(json.dumps(rules, indent=1), "rules.json")
    assert [labels_of(rule) for rule in read.rules] == [("sports",), ("business",)]
    assert read.rules[1].line == 9


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("", 1),
        ("labels: [a, b]", 1),
        ("rules: []", 1),
        ("rules:\n  - label: a\n", 2),
        ("rules:\n  - team\n", 2),
        ("rules:\n  - label: a\n    keyword: [x]\n", 2),
        ("rules:\n  - keywords: [x]\n", 2),
        ("rules:\n  - label: a\n    keywords: []\n", 3),
        ("rules:\n  - label: a\n    keywords: [x]\n    pattern: y\n", 2),
        ("rules:\n  - label: a\n    keywords: [x]\n    weight: 2\n", 4),
        ("rules:\n  - label: a\n    keywords: ['te*am']\n", 3),
        ("rules:\n  - label: a\n    keywords: ['world cup*']\n", 3),
        ("rules:\n  - label: a\n    pattern: '(unclosed'\n", 3),
        ("rules:\n  - label: a\n    pattern: '*x'\n", 3),
        ("rules:\n  - label: a\n    keywords: [x]\n    name: n\n  - name: n\n    label: a\n    keywords: [y]\n", 5),
        ("rules:\n  - model: m\n    least: 2\n", 3),
        ("rules:\n  - zero_shot: minilm\n", 2),
        ("rules:\n  - zero_shot: minilm\n    labels: {a: x}\n", 2),
        ("rules:\n  - zero_shot: minilm\n    labels: [a, b]\n", 3),
        ("rules:\n  - zero_shot: minilm\n    labels: {a: x, b: y}\n    hypothesis: none\n", 4),
        ("rules:\n  - chat: m\n", 2),
        ("rules:\n  - chat: m\n    labels: {a: x, b: y}\n    examples: [{text: z}]\n", 4),
        ("rules:\n  - chat: m\n    labels: {a: x, b: y}\n    examples:\n      - {text: z, label: c}\n", 5),
        ("rules:\n  - endpoint: 'http://host/v1'\n    labels: {a: x, b: y}\n", 2),
        ("rules:\n  - endpoint: 'ftp://host/v1#m'\n    labels: {a: x, b: y}\n", 2),
        ("rules:\n  - endpoint: 'http://me:secret@host/v1#m'\n    labels: {a: x, b: y}\n", 2),
        ("rules:\n  - endpoint: 'http://host:99999/v1#m'\n    labels: {a: x, b: y}\n", 2),
        ("rules:\n\t- label: a\n", 2),
        ("labels: [a, b]\nrules:\n  - label: c\n    keywords: [x]\n", 3),
    ],
)
def test_what_people_write_by_mistake_is_refused_with_its_line(body: str, line: int) -> None:
    with pytest.raises(BadInput) as caught:
        read_rules(body, "rules.yaml")
    assert (caught.value.detail["file"], caught.value.detail["line"]) == ("rules.yaml", line)


def test_an_unknown_label_names_the_rule_and_a_near_label() -> None:
    read = read_rules("rules:\n  - name: games\n    label: sport\n    keywords: [x]\n", "rules.yaml")
    with pytest.raises(BadInput) as caught:
        check_labels(read, ("sports", "business"))
    assert (caught.value.detail["rule"], caught.value.detail["line"], caught.value.detail["value"]) == (
        "games",
        2,
        "sport",
    )
    assert "did you mean sports?" in caught.value.message


@given(st.text(max_size=80), st.sampled_from(["", "rules:\n  - label: a\n    ", "rules:\n  - "]))
def test_no_text_ends_in_anything_but_rules_or_an_error_with_its_line(text: str, head: str) -> None:
    line = 1
    try:
        read_rules(head + text, "x")
    except BadInput as error:
        line = error.detail["line"]
    assert line >= 1
