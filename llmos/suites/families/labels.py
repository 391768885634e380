"""Tests of labels: the label that a text must have, may have, or must not have, and how its score moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmos.abi.json_type import Json
from llmos.data.row import LabelRow
from llmos.data.yaml_source import Node, Scalar, YamlSource
from llmos.suites.drafted import NOISES_TO_TRY, TEXTS_OF_INVARIANCE, Draft, DraftedTest, as_template
from llmos.suites.form import TEXT, Edits, Form

noisy_field = TEXT
uses_marks = False
has_scores = True
repeats_itself = True
has_drafts = True
TEXTS_OF_LABEL = 6
EXAMPLE = "expect: LABEL; or expect: with one_of, labels, includes, not, or label and at_least"
KEYS = ("label", "labels", "one_of", "includes", "not", "at_least")


@dataclass(frozen=True, slots=True)
class LabelExpectation:
    """All of what is there must hold: exactly these labels, any of those, all of those, none of those."""

    exactly: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    at_least: float | None = None  # the score of every label in `exactly`


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """The labels that were given, and the score of each that the model knows."""

    labels: tuple[str, ...]
    scores: dict[str, float]


def read_expectation(node: Node, source: YamlSource) -> LabelExpectation:
    if isinstance(node, Scalar):
        return LabelExpectation(exactly=(source.text(node, "expect", EXAMPLE),))
    given = source.fields(node, "expect", KEYS, EXAMPLE).of
    if not given.keys() - {"at_least"}:
        raise source.error(node.line, "expect names no label", EXAMPLE)
    if "label" in given and "labels" in given:
        raise source.error(node.line, "expect has label and labels", "label: for one, or labels: for several")
    texts = {key: source.texts(one, f"expect: {key}", EXAMPLE) for key, one in given.items() if key != "at_least"}
    least = given.get("at_least")
    if least is not None and "label" not in given and "labels" not in given:
        raise source.error(least.line, "at_least is the score of no label", "label: LABEL beside at_least")
    return LabelExpectation(
        texts.get("label", texts.get("labels", ())),
        texts.get("one_of", ()),
        texts.get("includes", ()),
        texts.get("not", ()),
        None if least is None else source.number(least, "expect: at_least", 0.0, 1.0),
    )


def labels_in(expectation: LabelExpectation) -> Sequence[str]:
    return (*expectation.exactly, *expectation.one_of, *expectation.includes, *expectation.excludes)


def fill(expectation: LabelExpectation, form: Form, filled: Callable[[str], str]) -> LabelExpectation:
    return expectation


def read_answer(output: Json) -> LabelAnswer:
    many = output.get("labels")
    scores = {str(key): float(value) for key, value in (output.get("scores") or {}).items()}
    label = output.get("label")
    return LabelAnswer(tuple(many or ()) if label is None else (str(label),), scores)


def show(answer: LabelAnswer) -> str:
    return ", ".join(answer.labels) or "no label"


def show_expected(expectation: LabelExpectation) -> str:
    parts = [", ".join(expectation.exactly)] if expectation.exactly else []
    parts += [f"one of {', '.join(expectation.one_of)}"] if expectation.one_of else []
    parts += [f"with {', '.join(expectation.includes)}"] if expectation.includes else []
    parts += [f"not {', '.join(expectation.excludes)}"] if expectation.excludes else []
    parts += [f"score at least {expectation.at_least:g}"] if expectation.at_least is not None else []
    return "; ".join(parts)


def score(answer: LabelAnswer) -> float | None:
    given = [answer.scores[label] for label in answer.labels if label in answer.scores]
    return min(given) if given else None


def is_met(expectation: LabelExpectation, answer: LabelAnswer) -> bool:
    given, one_of = set(answer.labels), set(expectation.one_of)
    least = expectation.at_least
    return (
        (not expectation.exactly or given == set(expectation.exactly))
        and (not one_of or not one_of.isdisjoint(given))
        and given.issuperset(expectation.includes)
        and given.isdisjoint(expectation.excludes)
        and (least is None or all(answer.scores.get(label, 0.0) >= least for label in expectation.exactly))
    )


def is_same(before: LabelAnswer, after: LabelAnswer, edits: Edits) -> bool:
    return set(before.labels) == set(after.labels)


def move_expectation(expectation: LabelExpectation, edits: Edits) -> LabelExpectation:
    return expectation


def form_of(row: LabelRow) -> tuple[Form, LabelExpectation]:
    return Form(((TEXT, row.input["text"]),)), LabelExpectation(exactly=row.labels)


def draft(rows: Sequence[LabelRow], labels: Sequence[str]) -> Draft:
    """A test of each label by its rows, and one of all that noise must not change."""
    by_labels: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        by_labels.setdefault(tuple(sorted(row.labels)), []).append(as_template(row.input["text"]))
    ordered = sorted(
        by_labels, key=lambda given: ([*labels].index(given[0]) if given and given[0] in labels else -1, given)
    )
    tests = [
        DraftedTest(
            f"{', '.join(given)}: rows like these",
            f"Rows with the label {', '.join(given)}. Which of them must never go wrong?",
            {
                "texts": by_labels[given][:TEXTS_OF_LABEL],
                "expect": given[0] if len(given) == 1 else {"labels": list(given)},
            },
        )
        for given in ordered
        if given
    ]
    each = max(1, TEXTS_OF_INVARIANCE // max(1, len(by_labels)))
    texts = [text for given in ordered for text in by_labels[given][:each]][: 2 * TEXTS_OF_INVARIANCE]
    about = "None of these changes what a text says, so none may change its label."
    noise = DraftedTest("a change that says nothing", about, {"texts": texts, "unchanged_by": NOISES_TO_TRY})
    return Draft((*tests, noise))
