"""The result of a run: of each test how many cases failed, and every failure with text, expected, given and score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.abi.json_type import Json
from llmos.suites.families import SuiteFamily
from llmos.suites.plan import Case, SuitePlan
from llmos.suites.suite import ScoreMove, TestKind

SLACK = 0.01  # of a score that is at its end, and may only stay there
Ask = Callable[[Sequence[Json]], Sequence[Json]]  # inputs in, outputs as HTTP has them out, in order


@dataclass(frozen=True, slots=True)
class CaseFailure:
    """A case that does not hold."""

    text: str
    how: str  # what changed the text; empty where it is as the suite has it
    before: str  # the text that was changed
    expected: str
    given: str
    score: float | None


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """What came of one test; it passes with no larger share of failures than it allows."""

    __test__ = False  # pytest takes classes of this name for tests

    name: str
    kind: TestKind
    line: int
    cases: int
    max_failures: float
    failures: tuple[CaseFailure, ...] = ()
    about: str = ""

    @property
    def failed_share(self) -> float:
        return len(self.failures) / self.cases

    @property
    def is_passed(self) -> bool:
        return self.failed_share <= self.max_failures


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What came of one suite on one model."""

    suite: str
    file: str
    model: str
    task: str
    seed: int
    tests: tuple[TestOutcome, ...]

    @property
    def is_passed(self) -> bool:
        return all(test.is_passed for test in self.tests)

    @property
    def cases(self) -> int:
        return sum(test.cases for test in self.tests)

    @property
    def failure_count(self) -> int:
        """Cases that failed, those that their tests allow too."""
        return sum(len(test.failures) for test in self.tests)

    def summary(self) -> str:
        """One sentence: how many tests passed, and which did not."""
        wrong = [f"{one.name} ({len(one.failures)} of {one.cases} cases)" for one in self.tests if not one.is_passed]
        passed = len(self.tests) - len(wrong)
        cases = f"{self.cases - self.failure_count:,} of {self.cases:,} cases"
        said = f"{self.suite}: {passed} of {len(self.tests)} tests passed, {cases}"
        return f"{said}. Failed: {'; '.join(wrong)}" if wrong else said

    def plain(self) -> dict[str, Json]:
        """For JSON: every field, and what follows from them."""
        return {
            "suite": self.suite,
            "file": self.file,
            "model": self.model,
            "task": self.task,
            "seed": self.seed,
            "passed": self.is_passed,
            "cases": self.cases,
            "failed": self.failure_count,
            "tests": [_plain_test(one) for one in self.tests],
        }


def _plain_test(test: TestOutcome) -> dict[str, Json]:
    return {
        "name": test.name,
        "kind": str(test.kind),
        "about": test.about,
        "line": test.line,
        "passed": test.is_passed,
        "cases": test.cases,
        "failed": len(test.failures),
        "pass_rate": 1 - test.failed_share,
        "max_failures": test.max_failures,
        "failures": [
            {
                "text": one.text,
                "how": one.how,
                "before": one.before,
                "expected": one.expected,
                "given": one.given,
                "score": one.score,
            }
            for one in test.failures
        ],
    }


def judge_outputs(plan: SuitePlan, outputs: Sequence[Json], model: str) -> SuiteResult:
    """The result by these outputs of the plan's inputs."""
    assert len(outputs) == len(plan.inputs), f"{len(outputs)} answers to {len(plan.inputs)} inputs"
    suite = plan.suite
    answers = [suite.family.read_answer(output) for output in outputs]
    failures: dict[str, list[CaseFailure]] = {test.name: [] for test in suite.tests}
    counts = dict.fromkeys(failures, 0)
    for case in plan.cases:
        counts[case.test.name] += 1
        failure = _failure(suite.family, case, answers)
        if failure is not None:
            failures[case.test.name].append(failure)
    outcomes = tuple(
        TestOutcome(
            one.name, one.kind, one.line, counts[one.name], one.max_failures, tuple(failures[one.name]), one.about
        )
        for one in suite.tests
    )
    return SuiteResult(suite.name, suite.source.file, model, suite.task, suite.seed, outcomes)


def run_plan(plan: SuitePlan, ask: Ask, model: str) -> SuiteResult:
    """Ask all inputs of a plan at once, and judge the answers."""
    return judge_outputs(plan, ask(plan.inputs), model)


def _failure(family: SuiteFamily, case: Case, answers: Sequence[Any]) -> CaseFailure | None:
    answer = answers[case.asked]
    if case.before is None:
        if family.is_met(case.expectation, answer):
            return None
        return _case_failure(family, case, family.show_expected(case.expectation), answer)
    before = answers[case.before]
    if case.test.moves:
        return _move_failure(family, case, before, answer)
    if family.is_same(before, answer, case.edits):
        return None
    return _case_failure(family, case, f"as before: {family.show(before)}", answer)


def _move_failure(family: SuiteFamily, case: Case, before: Any, after: Any) -> CaseFailure | None:
    """The first of the moves that did not happen."""
    for move in case.test.moves:
        old, new = before.scores.get(move.label, 0.0), after.scores.get(move.label, 0.0)
        if not _has_moved(move, old, new):
            word = "rises" if move.is_rise else "falls"
            expected = f"{move.label} {word} by at least {move.least:g} from {old:.3f}"
            given = f"{move.label}; the answer is {family.show(after)}"
            return CaseFailure(case.form.show(), case.how, _before(case), expected, given, new)
    return None


def _has_moved(move: ScoreMove, old: float, new: float) -> bool:
    """A score that has less room than it must move ends within that room, and does not go the other way."""
    if move.is_rise:
        return new >= min(old + move.least, max(old - SLACK, 1 - move.least))
    return new <= max(old - move.least, min(old + SLACK, move.least))


def _case_failure(family: SuiteFamily, case: Case, expected: str, answer: Any) -> CaseFailure:
    return CaseFailure(case.form.show(), case.how, _before(case), expected, family.show(answer), family.score(answer))


def _before(case: Case) -> str:
    return "" if case.before_form is None else case.before_form.show()
