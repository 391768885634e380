"""Rollouts: how a candidate is tried on live traffic, what has been counted, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from llmos.abi.disagreement import DisagreementState
from llmos.abi.error import BadInput
from llmos.abi.rollout_guard import GuardMeasure, RolloutGuard, check_guards, default_guards
from llmos.abi.task import Family

CANDIDATE, PROMOTED = "candidate", "promoted"  # the two arms
DEFAULT_STEPS = (0.1, 0.25, 0.5, 1.0)
DEFAULT_CALLS = 100
MOST_STEPS = 20
MOST_CALLS = 10_000_000
LEAST_ALPHA = 1e-6


class Mode(StrEnum):
    """What the candidate is given: a copy of calls; a share that is raised by steps; or a fixed share."""

    SHADOW = "shadow"
    CANARY = "canary"
    AB = "ab"


class Stage(StrEnum):
    """Where a rollout stands. The last five are ends."""

    RUNNING = "running"
    HOLDING = "holding"  # its calls are there, but a guard leans the wrong way without being shown to be broken
    PROMOTING = "promoting"  # decided; the store has not finished
    FINISHED = "finished"  # every guard held, and nothing was promoted, as was asked
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"
    REFUSED = "refused"  # the store refused the promotion
    DONE = "promoted"


ENDS = frozenset({Stage.FINISHED, Stage.ROLLED_BACK, Stage.STOPPED, Stage.REFUSED, Stage.DONE})


@dataclass(frozen=True, slots=True)
class Tally:
    """How many values from 0 to 1 were observed, and their sum."""

    count: int = 0
    total: float = 0.0

    def plus(self, value: float) -> Tally:
        return Tally(self.count + 1, self.total + value)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """What is asked for.

    `steps` are the candidate's shares of calls, one after another; each lasts until the candidate has answered `calls`
    calls (of a shadow: that many copies). `alpha` bounds the chance that a candidate which keeps
    all guards is ever rolled back.
    """

    candidate: int
    mode: Mode = Mode.CANARY
    steps: tuple[float, ...] = DEFAULT_STEPS
    guards: tuple[str, ...] = ()
    calls: int = DEFAULT_CALLS
    alpha: float = 0.05
    promote: bool = True


@dataclass(frozen=True, slots=True)
class RolloutNote:
    """One entry of a rollout's history: what was done, why, and at which share of calls."""

    at: float
    what: str  # started, step, hold, rolled_back, promoting, promoted, refused, stopped, finished
    reason: str
    share: float
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as the journal keeps it. `against` is the version that was promoted when it began.

    `tallies` are keyed by arm and measure. `step_from` is how many calls the candidate had when the step began.
    """

    id: str
    name: str
    against: int
    plan: RolloutPlan
    started_at: float
    stage: Stage = Stage.RUNNING
    step: int = 0
    step_from: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    history: tuple[RolloutNote, ...] = ()
    ended_at: float | None = None

    @property
    def share(self) -> float:
        """The candidate's share of calls now; of a shadow, the share that is copied."""
        return self.plan.steps[self.step]

    @property
    def is_ended(self) -> bool:
        return self.stage in ENDS

    @property
    def candidate_ref(self) -> str:
        return f"{self.name}:{self.plan.candidate}"

    @property
    def promoted_ref(self) -> str:
        return f"{self.name}:{self.against}"

    @property
    def guards(self) -> tuple[RolloutGuard, ...]:
        return check_guards(self.plan.guards)

    @property
    def candidate_calls(self) -> int:
        """How many calls the candidate has answered or failed; of a shadow, copies."""
        return self.tallies.get(f"{CANDIDATE}.{GuardMeasure.ERRORS}", Tally()).count

    def part_of(self, version: int) -> str:
        """What a version is in it, for tables; empty for one that is not in it."""
        if version == self.plan.candidate:
            return f"{CANDIDATE}, {self.summary}"
        return f"{PROMOTED}, beside {self.candidate_ref}" if version == self.against else ""

    @property
    def summary(self) -> str:
        """In a few words, for tables: `canary 25%, holding`."""
        stage = "" if self.stage is Stage.RUNNING else f", {self.stage.replace('_', ' ')}"
        return f"{self.plan.mode} {self.share:.0%}{stage}"


@dataclass(frozen=True, slots=True)
class GuardState:
    """What a guard has seen: the estimate and its interval, valid however often it is looked at.

    Of a guard against the promoted version, the interval is of the difference.
    """

    guard: str
    state: str  # broken, kept (both shown), open
    leans: bool  # the estimate is on the wrong side of the bound
    estimate: float | None
    low: float
    high: float
    count: int
    sentence: str


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout, what its guards have seen, and how the next step stands."""

    rollout: Rollout
    guards: tuple[GuardState, ...] = ()
    copies: dict[str, int] = field(default_factory=dict)  # made, dropped, failed; since the daemon's start
    earlier: tuple[Rollout, ...] = ()  # ended ones of this name, the newest first
    disagreements: DisagreementState = field(default_factory=DisagreementState)


def plan_of(
    family: Family,
    candidate: int,
    *,
    mode: Mode | None = None,
    share: float | None = None,
    steps: tuple[float, ...] | None = None,
    guards: tuple[str, ...] | None = None,
    calls: int | None = None,
    alpha: float | None = None,
    promote: bool | None = None,
) -> RolloutPlan:
    """The plan with its defaults for a model of this family; BadInput, with the way out, for one that cannot work."""
    mode = mode or Mode.CANARY
    asked = default_guards(family, mode) if guards is None else guards
    if not asked:
        raise BadInput("A rollout needs a guard, such as errors<=0.01, or it could never be rolled back", key="guards")
    parsed = check_guards(asked)
    for guard in parsed:
        guard.check_fits(mode, family)
    shares = _steps(mode, share, steps)
    calls = DEFAULT_CALLS if calls is None else calls
    if not 1 <= calls <= MOST_CALLS:
        raise BadInput(f"calls is {calls}; it must be from 1 to {MOST_CALLS:,}", key="calls", value=calls)
    alpha = 0.05 if alpha is None else alpha
    if not LEAST_ALPHA <= alpha <= 0.5:
        raise BadInput(f"alpha is {alpha:g}; it must be from {LEAST_ALPHA:g} to 0.5", key="alpha", value=alpha)
    promotes = (mode is not Mode.SHADOW) if promote is None else promote
    if promotes and mode is Mode.SHADOW:
        raise BadInput(
            "A shadow promotes nothing, because nobody has seen the candidate's answers. Follow it with a canary",
            key="promote",
        )
    return RolloutPlan(candidate, mode, shares, tuple(asked), calls, alpha, promotes)


def _steps(mode: Mode, share: float | None, steps: tuple[float, ...] | None) -> tuple[float, ...]:
    """The shares, one after another: only a canary has several."""
    if mode is not Mode.CANARY:
        if steps and len(steps) > 1:
            raise BadInput(f"Only a canary has several steps; give {mode} one share", key="steps")
        if share is None:
            share = steps[0] if steps else (0.5 if mode is Mode.AB else 1.0)
        _check_share(share, "share", below_one=mode is Mode.AB)
        return (share,)
    if steps is None:
        first = DEFAULT_STEPS[0] if share is None else share
        steps = (first, *(one for one in DEFAULT_STEPS if one > first))
    elif share is not None and (not steps or share != steps[0]):
        steps = (share, *(one for one in steps if one > share))
    if not 1 <= len(steps) <= MOST_STEPS:
        raise BadInput(f"steps has {len(steps)} shares; it may have from 1 to {MOST_STEPS}", key="steps")
    for one in steps:
        _check_share(one, "steps")
    if any(after <= before for before, after in pairwise(steps)):
        raise BadInput(f"steps must rise: {', '.join(f'{one:g}' for one in steps)}", key="steps")
    return tuple(steps)


def _check_share(share: float, key: str, *, below_one: bool = False) -> None:
    if not 0.0 < share <= 1.0 or (below_one and share == 1.0):
        bound = "below 1" if below_one else "at most 1"
        raise BadInput(f"{key} has {share:g}; a share is above 0 and {bound}", key=key, value=share)
