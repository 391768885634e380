"""Tests of written text: what it contains, matches, or must not say; that it is JSON, or short."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llmos.abi.json_type import Json
from llmos.data.row import TextRow
from llmos.data.yaml_source import Node, YamlSource
from llmos.suites.drafted import Draft
from llmos.suites.form import TEXT, Edits, Form

noisy_field = TEXT
uses_marks = False
has_scores = False
repeats_itself = False
has_drafts = False
EXAMPLE = "expect: with contains, contains_one_of, not_contains, matches, not_matches, json: true, or most_words: N"
TEXTS = ("contains", "contains_one_of", "not_contains")
PATTERNS = ("matches", "not_matches")


@dataclass(frozen=True, slots=True)
class TextExpectation:
    """All of what is there must hold. Texts are looked for without regard to case, patterns as they are (re.search)."""

    contains: tuple[str, ...] = ()
    contains_one_of: tuple[str, ...] = ()
    not_contains: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    not_matches: tuple[str, ...] = ()
    is_json: bool = False
    most_words: int | None = None


@dataclass(frozen=True, slots=True)
class WrittenAnswer:
    """What the model wrote."""

    text: str


def read_expectation(node: Node, source: YamlSource) -> TextExpectation:
    given = source.fields(node, "expect", (*TEXTS, *PATTERNS, "json", "most_words"), EXAMPLE).of
    if not given:
        raise source.error(node.line, "expect is empty", EXAMPLE)
    texts = {key: source.texts(given[key], f"expect: {key}", EXAMPLE) for key in (*TEXTS, *PATTERNS) if key in given}
    for key in PATTERNS:
        for pattern in texts.get(key, ()):
            try:
                re.compile(pattern)
            except re.error as error:
                what = f"expect: {key} is no regular expression ({error})"
                raise source.error(given[key].line, what, f"{key}: '\\d+ days' in single quotes, for one") from error
    return TextExpectation(
        **texts,
        is_json="json" in given and source.flag(given["json"], "expect: json"),
        most_words=source.whole(given["most_words"], "expect: most_words", 1, 100_000)
        if "most_words" in given
        else None,
    )


def labels_in(expectation: TextExpectation) -> Sequence[str]:
    return ()


def fill(expectation: TextExpectation, form: Form, filled: Callable[[str], str]) -> TextExpectation:
    contains, one_of, excluded = (
        tuple(map(filled, texts))
        for texts in (expectation.contains, expectation.contains_one_of, expectation.not_contains)
    )
    return replace(expectation, contains=contains, contains_one_of=one_of, not_contains=excluded)


def read_answer(output: Json) -> WrittenAnswer:
    return WrittenAnswer((output["message"].get("content") or "") if "message" in output else output["text"])


def show(answer: WrittenAnswer) -> str:
    return answer.text


def show_expected(expectation: TextExpectation) -> str:
    parts = [f"contains {one}" for one in expectation.contains]
    parts += [f"contains one of {', '.join(expectation.contains_one_of)}"] if expectation.contains_one_of else []
    parts += [f"does not contain {one}" for one in expectation.not_contains]
    parts += [f"matches {one}" for one in expectation.matches]
    parts += [f"does not match {one}" for one in expectation.not_matches]
    parts += ["is JSON"] if expectation.is_json else []
    parts += [f"has at most {expectation.most_words} words"] if expectation.most_words is not None else []
    return "; ".join(parts)


def score(answer: WrittenAnswer) -> float | None:
    return None


def is_met(expectation: TextExpectation, answer: WrittenAnswer) -> bool:
    text, folded = answer.text, answer.text.casefold()
    one_of = expectation.contains_one_of
    return (
        all(one.casefold() in folded for one in expectation.contains)
        and (not one_of or any(one.casefold() in folded for one in one_of))
        and not any(one.casefold() in folded for one in expectation.not_contains)
        and all(re.search(one, text) for one in expectation.matches)
        and not any(re.search(one, text) for one in expectation.not_matches)
        and (not expectation.is_json or _is_json(text))
        and (expectation.most_words is None or len(text.split()) <= expectation.most_words)
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def is_same(before: WrittenAnswer, after: WrittenAnswer, edits: Edits) -> bool:
    return before.text.split() == after.text.split()


def move_expectation(expectation: TextExpectation, edits: Edits) -> TextExpectation:
    return expectation


def form_of(row: TextRow) -> tuple[Form, None]:
    return Form(((TEXT, row.prompt),)), None  # nobody writes the very answer of a row


def draft(rows: Sequence[TextRow], labels: Sequence[str]) -> Draft:
    return Draft(())
