"""The gate's policy of a name: which requirements a candidate must meet to be promoted, and how they are written.

Only written and parsed here; `evaluation/conditions` checks them, where the model was trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf, isfinite

from llmos.abi.error import BadInput

METRIC = "metric"
SUITE, SLICE = "suite", "slice"
ABSTAIN, CALIBRATION_ERROR = "abstain", "calibration_error"
LOW = "low"
AT_LEAST, AT_MOST = ">=", "<="
AS_GOOD, NOT_WORSE, BETTER, NO_COMPARISON = "at-least-as-good", "not-worse", "better", "no-comparison"
BETTER_OR_WIDER = "better-or-new-labels"
WRITTEN = re.compile(
    r"(?P<subject>[a-z][a-z0-9_-]*?)(?:\.(?P<part>low))?(?::(?P<argument>.+?))?"
    r"(?:\s*(?P<operator>>=|<=)\s*(?P<number>[-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*(?P<percent>%?))?",
    re.DOTALL | re.IGNORECASE | re.ASCII,
)
SHARES = re.compile(r"accuracy|(?:(?:macro|micro|weighted)_)?(?:f1|precision|recall)")  # metrics from 0 to 1
MAX_REQUIREMENTS = 32
MAX_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class ConditionKind:
    """How requirements of one kind are written. `operators` may stand before a number; none: there is no number."""

    help: str
    example: str
    operators: tuple[str, ...] = ()
    has_argument: bool = False
    limit: float = inf  # a number is over 0, and under this
    is_comparison: bool = False  # how the candidate must stand to the promoted version; a policy has one of these


KINDS: dict[str, ConditionKind] = {
    AS_GOOD: ConditionKind(
        "the primary metric is not below the promoted version's, or not worse within the margin",
        AS_GOOD,
        is_comparison=True,
    ),
    NOT_WORSE: ConditionKind("shown to be better, or not worse within the margin", NOT_WORSE, is_comparison=True),
    BETTER: ConditionKind("shown to be better than the promoted version", BETTER, is_comparison=True),
    BETTER_OR_WIDER: ConditionKind(
        "shown to be better; or not below the promoted version, with labels that this one does not have",
        BETTER_OR_WIDER,
        is_comparison=True,
    ),
    NO_COMPARISON: ConditionKind("whatever the promoted version scores", NO_COMPARISON, is_comparison=True),
    METRIC: ConditionKind(
        "a metric of the test rows; with `.low`, the lower end of its 95 % interval", "f1.low>=0.8", (AT_LEAST, AT_MOST)
    ),
    "latency_ms": ConditionKind(
        "the median time of one test row alone, measured where the model was trained", "latency_ms<=20", (AT_MOST,)
    ),
    ABSTAIN: ConditionKind(
        "at most this share of the answers given is wrong: promised by the validation rows, not contradicted by the "
        "test rows",
        "abstain<=0.05",
        (AT_MOST,),
        limit=1.0,
    ),
    CALIBRATION_ERROR: ConditionKind(
        "how far scores and the share of right answers lie apart on the test rows, less what chance adds",
        "calibration_error<=0.02",
        (AT_MOST,),
        limit=1.0,
    ),
    SLICE: ConditionKind(
        "the primary metric on a part of the test rows: of one value (language=de), of every value of a facet or "
        "column (language), or of the worst slice that is found (worst)",
        "slice:language=de>=0.8",
        (AT_LEAST,),
        has_argument=True,
    ),
    SUITE: ConditionKind(
        "every test of a behaviour suite passes on the candidate: docs/testing.md",
        "suite:/data/support.suite.yaml",
        has_argument=True,
    ),
    "size_mb": ConditionKind(
        "the candidate's own files in millions of bytes, without its base's", "size_mb<=50", (AT_MOST,)
    ),
}
"""Every kind of requirement by its word; any other word is the name of a metric. `evaluation/conditions/condition.py`
says how one is added."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement as it was parsed. `subject` is the kind's word, or the metric's name where `kind` is METRIC."""

    kind: str
    subject: str
    argument: str = ""
    is_low: bool = False
    operator: str = ""
    number: float = 0.0

    def __str__(self) -> str:
        argument = f":{self.argument}" if self.argument else ""
        limit = f"{self.operator}{self.number:g}" if self.operator else ""
        return f"{self.subject}{f'.{LOW}' if self.is_low else ''}{argument}{limit}"

    def is_met_by(self, value: float) -> bool:
        """Whether this number is on the right side of the requirement's own."""
        return value >= self.number if self.operator == AT_LEAST else value <= self.number


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What a candidate must meet to be promoted under a name: all of `require`, worse by less than `margin` at most.

    `margin` is of the task's primary metric, in its own unit: 0.01 of an accuracy is one point.
    """

    require: tuple[str, ...] = (AS_GOOD,)
    margin: float = 0.0

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        return tuple(map(parse_requirement, self.require))


DEFAULT_POLICY = GatePolicy()
LEARNING_POLICY = GatePolicy((BETTER_OR_WIDER,))  # of trainings by standing orders, which nobody looks at


@dataclass(frozen=True, slots=True)
class Gate:
    """A name's policy, as it is shown."""

    name: str
    require: tuple[str, ...]
    margin: float
    is_default: bool


def gate_policy(require: Iterable[str] | None = None, margin: float | None = None) -> GatePolicy:
    """The policy of these requirements, in their usual spelling; BadInput for those that cannot be.

    Without a comparison among them it compares as the default does: floors do not stand in for it.
    """
    parsed = list(dict.fromkeys(map(parse_requirement, require or ())))
    for one in parsed:
        _refuse_unreachable(one)
    compared = [one for one in parsed if KINDS[one.kind].is_comparison]
    if len(compared) > 1:
        raise BadInput(
            f"{' and '.join(map(str, compared))} exclude each other. Require one of them",
            key="require",
            reason="exclusive",
        )
    if not compared:
        parsed.insert(0, parse_requirement(AS_GOOD))
    if len(parsed) > MAX_REQUIREMENTS:
        raise BadInput(
            f"{len(parsed)} requirements; a policy has at most {MAX_REQUIREMENTS}",
            key="require",
            limit=MAX_REQUIREMENTS,
        )
    margin = margin or 0.0
    if isinstance(margin, bool) or not isfinite(margin) or not 0 <= margin <= 1:
        raise BadInput(
            f"margin is {margin!r}; it must be a number from 0 to 1, such as 0.01", key="margin", value=margin
        )
    return GatePolicy(tuple(map(str, parsed)), float(margin))


def parse_requirement(text: str) -> Requirement:
    """A requirement such as `f1>=0.8`; BadInput, with one that could be meant, for a text that is none."""
    found = WRITTEN.fullmatch(text.strip()) if len(text) <= MAX_CHARACTERS else None
    if found is None:
        is_compared = re.search(r"[<>=]", text)
        raise _unreadable(text, "write >= or <= and a number" if is_compared else "it is no requirement")
    subject = found["subject"].lower()
    kind = subject if subject in KINDS and subject != METRIC else METRIC
    declared = KINDS[kind]
    if kind == METRIC and (found["operator"] is None or found["argument"] is not None):
        near = get_close_matches(subject, KINDS, n=1)
        raise _unreadable(text, f"did you mean {KINDS[near[0]].example}?" if near else "a metric needs >= or <=")
    if bool(found["operator"]) != bool(declared.operators) or (found["operator"] or "") not in (
        "",
        *declared.operators,
    ):
        raise _unreadable(text, f"it is written {declared.example}")
    if bool(found["argument"]) != declared.has_argument or (found["part"] and kind != METRIC):
        raise _unreadable(text, f"it is written {declared.example}")
    if kind == SUITE and not found["argument"].startswith("/"):
        raise _unreadable(text, "a suite is named by its absolute path on the daemon's machine")
    return Requirement(
        kind, subject, found["argument"] or "", bool(found["part"]), found["operator"] or "", _number(text, found)
    )


def _refuse_unreachable(one: Requirement) -> None:
    """BadInput for a number that nothing, or everything, meets. Only a policy that is set is checked, not one that was
    kept."""
    declared = KINDS[one.kind]
    if declared.operators and one.kind != METRIC and not 0 < one.number < declared.limit:
        under = "" if declared.limit == inf else f" and under {declared.limit:g}"
        raise _unreadable(str(one), f"the number must be over 0{under}")
    if SHARES.fullmatch(one.subject) and not 0 <= one.number <= 1:
        raise _unreadable(str(one), f"{one.subject} is from 0 to 1, also written 0% to 100%")


def _number(text: str, found: re.Match[str]) -> float:
    if found["number"] is None:
        return 0.0
    try:
        number = float(found["number"])
    except ValueError as error:
        raise _unreadable(text, f"{found['number']} is no number") from error
    return number / 100 if found["percent"] else number


def _unreadable(text: str, why: str) -> BadInput:
    examples = ", ".join(kind.example for kind in KINDS.values())
    shown = text if len(text) <= 80 else f"{text[:79]}…"
    return BadInput(f"{shown!r} cannot be required: {why}. Examples: {examples}", key="require")
