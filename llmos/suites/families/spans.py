"""Tests of answers in passages: the text that answers, or that the passage does not say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llmos.abi.json_type import Json
from llmos.data.noise import move
from llmos.data.row import SpanRow
from llmos.data.yaml_source import Node, Scalar, YamlSource
from llmos.suites.drafted import NOISES_TO_TRY, TEXTS_OF_INVARIANCE, Draft, DraftedTest, as_template
from llmos.suites.form import Edits, Form

noisy_field = "question"
uses_marks = False
has_scores = False
repeats_itself = True
has_drafts = True
QUESTIONS = 30
EXAMPLE = "expect: ANSWER; or expect: with one_of: ANSWERS, contains: TEXT, or no_answer: true"
PASSAGE = "passage"


@dataclass(frozen=True, slots=True)
class AnswerExpectation:
    """One of these answers (none: whatever it is), with these texts in it; or that there is none."""

    one_of: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    is_none: bool = False


@dataclass(frozen=True, slots=True)
class PassageAnswer:
    """The answer as it stands in its passage; empty where the passage does not say."""

    text: str
    start: int | None
    end: int | None
    score: float


def read_expectation(node: Node, source: YamlSource) -> AnswerExpectation:
    if isinstance(node, Scalar):
        return AnswerExpectation(one_of=(source.text(node, "expect", EXAMPLE),))
    given = source.fields(node, "expect", ("one_of", "contains", "no_answer"), EXAMPLE).of
    texts = {key: source.texts(given[key], f"expect: {key}", EXAMPLE) for key in ("one_of", "contains") if key in given}
    none = "no_answer" in given and source.flag(given["no_answer"], "expect: no_answer")
    if bool(texts) == none:
        raise source.error(node.line, "expect must name an answer, or that there is none", EXAMPLE)
    return AnswerExpectation(texts.get("one_of", ()), texts.get("contains", ()), none)


def labels_in(expectation: AnswerExpectation) -> Sequence[str]:
    return ()


def fill(expectation: AnswerExpectation, form: Form, filled: Callable[[str], str]) -> AnswerExpectation:
    one_of, contains = (tuple(map(filled, texts)) for texts in (expectation.one_of, expectation.contains))
    return replace(expectation, one_of=one_of, contains=contains)


def read_answer(output: Json) -> PassageAnswer:
    return PassageAnswer(output["text"], output["start"], output["end"], float(output["score"]))


def show(answer: PassageAnswer) -> str:
    return answer.text or "the passage does not say"


def show_expected(expectation: AnswerExpectation) -> str:
    if expectation.is_none:
        return "the passage does not say"
    parts = [" or ".join(expectation.one_of)] if expectation.one_of else []
    return "; ".join([*parts, *(f"with {one}" for one in expectation.contains)])


def score(answer: PassageAnswer) -> float | None:
    return answer.score


def is_met(expectation: AnswerExpectation, answer: PassageAnswer) -> bool:
    if expectation.is_none:
        return not answer.text
    given = _bare(answer.text)
    is_one = not expectation.one_of or given in map(_bare, expectation.one_of)
    return bool(given) and is_one and all(_bare(one) in given for one in expectation.contains)


def is_same(before: PassageAnswer, after: PassageAnswer, edits: Edits) -> bool:
    if before.start is None or before.end is None:
        return after.start is None
    return move(before.start, before.end, edits.get(PASSAGE, ())) == (after.start, after.end)


def _bare(text: str) -> str:
    """A text without regard to case, spaces and the marks around it."""
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'()")


def move_expectation(expectation: AnswerExpectation, edits: Edits) -> AnswerExpectation:
    return expectation  # noise goes into the question


def form_of(row: SpanRow) -> tuple[Form, AnswerExpectation]:
    fields = ((noisy_field, row.input[noisy_field]), (PASSAGE, row.input[PASSAGE]))
    return Form(fields), AnswerExpectation(one_of=row.answers, is_none=not row.answers)


def draft(rows: Sequence[SpanRow], labels: Sequence[str]) -> Draft:
    """A test for each question, for each expects an answer of its own, and one of all that noise must not change."""
    tests = []
    for row in rows[:QUESTIONS]:
        expected = (
            {"one_of": list(dict.fromkeys(map(as_template, row.answers)))} if row.answers else {"no_answer": "true"}
        )
        name = f"{row.input[noisy_field]} (line {row.line})"
        about = "The passage says so." if row.answers else "The passage does not say."
        tests.append(DraftedTest(name, about, {"inputs": [_input(row)], "expect": expected}))
    inputs = [_input(row) for row in rows[:TEXTS_OF_INVARIANCE]]
    about = "None of these changes what is asked, so none may change the answer."
    noise = DraftedTest("a change that asks nothing else", about, {"inputs": inputs, "unchanged_by": NOISES_TO_TRY})
    return Draft((*tests, noise))


def _input(row: SpanRow) -> dict[str, str]:
    return {name: as_template(row.input[name]) for name in (noisy_field, PASSAGE)}
