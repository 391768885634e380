"""The plan of a run: every input to ask about, each once, and the cases that their answers decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import spec_of
from llmos.abi.wire import to_json
from llmos.data.noise import BY_WORDS, NOISES, Edit, replace_entries
from llmos.suites.form import TEXT, Edits, Form
from llmos.suites.suite import BehaviourTest, Suite, TextChange
from llmos.suites.templates import Lexicons, fill_marked, fill_text, fills_of, seeded_rng, slots_of

MAX_CASES = 20_000
LETTERS = BY_WORDS | {"case", "upper", "lower", "punctuation", "contraction", "sentence"}  # of one field alone


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that must hold: of the answer to an input, or of the answers before and after a change."""

    test: BehaviourTest
    form: Form
    asked: int  # the input's number in the plan
    expectation: Any = None  # of the family's own type
    how: str = ""
    before: int | None = None  # the unchanged input's number
    before_form: Form | None = None
    edits: Edits = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SuitePlan:
    """What a run asks, and what it decides by the answers, which come in the order of the inputs."""

    suite: Suite
    inputs: tuple[Json, ...]
    params: dict[str, Json]
    cases: tuple[Case, ...]


def plan_of(suite: Suite) -> SuitePlan:
    """The plan of this suite, the same for the same file; BadSuite for a change that changes none of a test's texts."""
    planner = _Planner(suite)
    cases: list[Case] = []
    for test in suite.tests:
        cases += planner.cases_of(test)
        if len(cases) > MAX_CASES:
            what = f"with {test.name!r} the suite has more than {MAX_CASES:,} cases"
            raise suite.source.error(test.line, what, "a smaller max_texts, or fewer variants")
    spec = spec_of(suite.task)
    steady: dict[str, Json] = {"temperature": 0.0} if spec.is_generative else {}
    return SuitePlan(suite, tuple(planner.inputs), {**steady, **suite.params}, tuple(cases))


class _Planner:
    """Collects the inputs of one suite."""

    def __init__(self, suite: Suite) -> None:
        self.suite, self.family = suite, suite.family
        self.inputs: list[Json] = []
        self._numbers: dict[bytes, int] = {}
        self._is_conversation = spec_of(suite.task).is_conversation

    def cases_of(self, test: BehaviourTest) -> Iterator[Case]:
        has_changed = dict.fromkeys(test.changes, False)
        for nth, (form, values) in enumerate(self._forms(test)):
            asked = self._number(test, form)
            expected = None
            if test.expectation is not None:
                expected = self.family.fill(test.expectation, form, partial(fill_text, values=values))
                yield Case(test, form, asked, expected)
            for change in test.changes:
                for variant in range(test.variants):
                    rng = seeded_rng(self.suite.seed, test.name, nth, change.what, variant)
                    edits = edits_of(change, form, self.family.noisy_field, self.suite.lexicons, rng)
                    changed = form.with_edits(edits)
                    if changed.fields == form.fields:
                        break
                    has_changed[change] = True
                    again = self._number(test, changed)
                    if expected is not None and not self.family.repeats_itself:
                        yield Case(test, changed, again, expected, change.what, before_form=form)
                    else:
                        yield Case(test, changed, again, None, change.what, asked, form, edits)
        for change, is_used in has_changed.items():
            if not is_used:
                what = f"{change.what!r} changes none of the texts of {test.name!r}"
                raise self.suite.source.error(change.line, what, "texts that it changes, or leave it out")

    def _forms(self, test: BehaviourTest) -> Iterator[tuple[Form, Mapping[str, str]]]:
        """The filled inputs of a test: as many of each template as of the others, where there are too many."""
        share, left = divmod(test.max_texts, len(test.templates))
        for nth, template in enumerate(test.templates):
            most = share + (1 if nth < left else 0)
            rng = seeded_rng(self.suite.seed, test.name, *template.items())
            for values in fills_of(slots_of(template.values()), self.suite.lexicons, most, rng):
                yield self._form(template, values), values

    def _form(self, template: Mapping[str, str], values: Mapping[str, str]) -> Form:
        if self.family.uses_marks:
            text, marks = fill_marked(template[TEXT], values)
            return Form(((TEXT, text),), marks)
        return Form(tuple((name, fill_text(text, values)) for name, text in template.items()))

    def _number(self, test: BehaviourTest, form: Form) -> int:
        """The number of an input, which is asked about once however many cases there are of it."""
        asked = form.input
        if self._is_conversation and isinstance(asked, str):
            asked = {"messages": [{"role": "user", "content": asked}]}
        try:
            key = to_json(asked)
        except BadInput as error:
            raise self.suite.source.error(test.line, error.message, "texts of whole characters") from error
        if key not in self._numbers:
            self._numbers[key] = len(self.inputs)
            self.inputs.append(asked)
        return self._numbers[key]


def edits_of(
    change: TextChange, form: Form, noisy_field: str, lexicons: Lexicons, rng: Random, *, least: int = 1
) -> Edits:
    """What this change does to an input: letters of one field, names and numbers alike in all."""
    every = [name for name, _ in form.fields]
    names = every if change.lexicon or (change.noise and change.noise not in LETTERS) else [noisy_field]
    text = form.join_fields(names)
    return form.by_field(names, _edits(change, text, lexicons, rng, least))


def _edits(change: TextChange, text: str, lexicons: Lexicons, rng: Random, least: int) -> Sequence[Edit]:
    if change.noise:
        return NOISES[change.noise](text, rng, change.share, least)
    if change.lexicon:
        return replace_entries(text, (lexicons[change.lexicon],), rng)
    if change.swaps:
        return _swap_texts(text, change.swaps)
    return [Edit(0, 0, change.before)] if change.before else [Edit(len(text), len(text), change.after)]


def _swap_texts(text: str, swaps: Sequence[tuple[str, str]]) -> list[Edit]:
    """Every old text by its new one; at each place the first that is there."""
    edits, at = [], 0
    while at < len(text):
        old, new = next(((old, new) for old, new in swaps if text.startswith(old, at)), ("", ""))
        if old:
            edits.append(Edit(at, at + len(old), new))
        at += len(old) or 1
    return edits
