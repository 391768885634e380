"""Guards of a rollout as they are written: `errors<=0.02`, `p95<=200ms`, `agreement>=0.9`, `feedback>=promoted-0.05`.

Only written and parsed here; `kernel/rollouts/guards` judges them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from llmos.abi.error import BadInput
from llmos.abi.task import Family

WRITTEN = re.compile(
    r"(?P<what>errors|agreement|feedback|p(?P<percent>\d{1,2}(?:\.\d+)?))\s*(?P<operator><=|>=)\s*"
    r"(?:(?P<beside>promoted)\s*(?:(?P<sign>[-+])\s*(?P<margin>\d*\.?\d+))?|(?P<number>\d*\.?\d+)\s*(?P<unit>ms|s)?)",
    re.ASCII,
)
EXAMPLES = "errors<=0.02, errors<=promoted+0.02, p95<=200ms, agreement>=0.9, feedback>=0.7, feedback>=promoted-0.05"
MOST_GUARDS = 8
SHADOW = "shadow"
COMPARED = (Family.LABELS, Family.TAGS, Family.SPANS)  # families whose answers agree or do not, by default


class GuardMeasure(StrEnum):
    """What a guard observes of a call: a number from 0 to 1."""

    ERRORS = "errors"
    SLOW = "slow"
    AGREEMENT = "agreement"
    FEEDBACK = "feedback"


@dataclass(frozen=True, slots=True)
class RolloutGuard:
    """A bound on the mean of a measure: the candidate's, or (`is_beside`) its difference to the promoted version's.

    A latency guard bounds the share of calls that take longer than `limit_s`.
    """

    text: str
    measure: GuardMeasure
    is_upper: bool
    bound: float
    is_beside: bool = False
    limit_s: float = 0.0

    @property
    def key(self) -> str:
        """What its tallies are called, after the arm."""
        return f"{self.measure}@{self.limit_s:g}" if self.measure is GuardMeasure.SLOW else str(self.measure)

    def check_fits(self, mode: str, family: Family) -> None:
        """BadInput for a guard that says nothing in this mode or of this family."""
        if mode == SHADOW and self.measure is GuardMeasure.SLOW:
            raise BadInput(
                f"{self.text}: a copy runs in the background class, so its time says nothing of the candidate's. Leave "
                "it out, or use a canary",
                key="guards",
                value=self.text,
            )
        if mode == SHADOW and self.measure is GuardMeasure.FEEDBACK:
            raise BadInput(
                f"{self.text}: nobody sees a shadow's answers, so no feedback comes. Leave it out, or use a canary",
                key="guards",
                value=self.text,
            )


def check_guards(texts: Sequence[str]) -> tuple[RolloutGuard, ...]:
    """The guards as they are written; BadInput for one that is none, for two of one kind, or for too many."""
    if len(texts) > MOST_GUARDS:
        raise BadInput(f"There are {len(texts)} guards; a rollout may have {MOST_GUARDS}", key="guards")
    found = tuple(map(parse_guard, texts))
    twice = [one.text for i, one in enumerate(found) if any(one.text == other.text for other in found[:i])]
    if twice:
        raise BadInput(f"{twice[0]} is there twice", key="guards", value=twice[0])
    return found


@lru_cache(256)
def parse_guard(text: str) -> RolloutGuard:
    """One guard; BadInput with examples if it cannot be read."""
    found = WRITTEN.fullmatch(text.strip())
    if found is None:
        raise _bad(text, "cannot be read")
    what, is_upper = found["what"], found["operator"] == "<="
    if found["percent"]:
        return _latency(text, found, is_upper=is_upper)
    measure = GuardMeasure(what)
    if found["unit"]:
        raise _bad(text, f"has a unit, and {what} is a share")
    if is_upper is not (measure is GuardMeasure.ERRORS):
        raise _bad(text, f"bounds {what} from the wrong side")
    if not found["beside"]:
        bound = float(found["number"])
        if not 0.0 <= bound <= 1.0:
            raise _bad(text, "has a bound that is not from 0 to 1")
        return RolloutGuard(text.strip(), measure, is_upper, bound)
    if measure is GuardMeasure.AGREEMENT:
        raise _bad(text, "compares with the promoted version, and agreement does that already")
    margin = float(found["margin"] or 0.0) * (-1.0 if found["sign"] == "-" else 1.0)
    if not -1.0 < margin < 1.0:
        raise _bad(text, "has a margin that is not between -1 and 1")
    return RolloutGuard(text.strip(), measure, is_upper, margin, is_beside=True)


def _latency(text: str, found: re.Match[str], *, is_upper: bool) -> RolloutGuard:
    percent = float(found["percent"])
    if not is_upper or found["beside"] or not found["unit"]:
        raise _bad(text, "bounds a latency from above by a time, such as p95<=200ms")
    if not 0.0 < percent < 100.0:
        raise _bad(text, "has a percentile that is not between 0 and 100")
    limit_s = float(found["number"]) * (0.001 if found["unit"] == "ms" else 1.0)
    if not limit_s > 0.0:
        raise _bad(text, "has no time")
    return RolloutGuard(text.strip(), GuardMeasure.SLOW, True, round(1.0 - percent / 100.0, 9), limit_s=limit_s)


def default_guards(family: Family, mode: str) -> tuple[str, ...]:
    """Those of a rollout that names none: errors no worse than the promoted version's, and the same answers.

    Generated texts, vectors and scores have no agreement by default, because equal ones are rare.
    """
    if mode == "ab":
        return ("errors<=promoted+0.02", "feedback>=promoted")
    same = ("agreement>=0.8",) if family in COMPARED else ()
    return ("errors<=promoted+0.02", *same)


def _bad(text: str, why: str) -> BadInput:
    return BadInput(f"The guard {text[:80]!r} {why}. Write, for example: {EXAMPLES}", key="guards", value=text[:80])
