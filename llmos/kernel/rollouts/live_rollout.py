"""One rollout while it is under way: which version a call goes to, what is counted, and when to decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmos.abi.error import (
    Corrupt,
    Crashed,
    Internal,
    LlmosError,
    NoRoom,
    NotFound,
    ProcessDied,
    TimedOut,
)
from llmos.abi.json_type import Json
from llmos.abi.rollout import CANDIDATE, PROMOTED, Mode, Rollout, Stage, Tally
from llmos.abi.rollout_guard import GuardMeasure
from llmos.kernel.rollouts.assignment import place_of
from llmos.kernel.rollouts.decision import RolloutDecision, decide, is_any_broken

FAULTS = (Internal, ProcessDied, Corrupt, Crashed, TimedOut, NoRoom, NotFound)  # of the version, not of the caller
LOOK_EVERY = 16  # observations between two looks that cost more than a few logarithms
MOST_SCORED = 10_000  # answers whose scores are known not to be counted again
NONE = Tally()


@dataclass(frozen=True, slots=True)
class RoutedVersion:
    """The version that a call goes to, and the rollout that chose it; empty if the call is not counted."""

    ref: str
    rollout: str


class LiveRollout:
    """Counts in memory; the journal gets the tallies with each decision, and now and then between."""

    def __init__(self, rollout: Rollout) -> None:
        self._seen = 0
        self._scored: dict[str, None] = {}  # answers, the first of which go first
        self.tallies: dict[str, Tally] = dict(rollout.tallies)
        self.rollout = rollout
        self.is_deciding = False
        self._limits = {one.key: one.limit_s for one in rollout.guards if one.measure is GuardMeasure.SLOW}
        self._is_compared = any(one.measure is GuardMeasure.AGREEMENT for one in rollout.guards)

    def take_over(self, rollout: Rollout) -> None:
        """Go on with the rollout as the table has it now; what was counted meanwhile stays."""
        if (rollout.step, rollout.stage) != (self.rollout.step, self.rollout.stage):
            self.is_deciding = False
        self.rollout = rollout

    @property
    def present(self) -> Rollout:
        """The rollout with what has been counted until now."""
        return replace(self.rollout, tallies=dict(self.tallies))

    def choose(self, user: str | None, inputs: Sequence[Json]) -> RoutedVersion:
        """The version for a call of this user, or without one for these inputs."""
        rollout = self.rollout
        is_below = rollout.share >= 1.0 or place_of(rollout.id, user, inputs) < rollout.share
        if rollout.plan.mode is Mode.SHADOW:
            return RoutedVersion(rollout.promoted_ref, rollout.id if is_below else "")
        return RoutedVersion(rollout.candidate_ref if is_below else rollout.promoted_ref, rollout.id)

    def arm_of(self, ref: str) -> str:
        """The arm that this version is."""
        return CANDIDATE if ref == self.rollout.candidate_ref else PROMOTED

    def other(self, ref: str) -> str:
        """The version of the other arm."""
        rollout = self.rollout
        return rollout.promoted_ref if ref == rollout.candidate_ref else rollout.candidate_ref

    @property
    def wants_copies(self) -> bool:
        """Whether the other version is to answer a copy of each counted call."""
        goes_on = self.rollout.stage in (Stage.RUNNING, Stage.HOLDING)
        return goes_on and (self.rollout.plan.mode is Mode.SHADOW or self._is_compared)

    def count_call(self, ref: str, error: Exception | None, seconds: float | None) -> None:
        """A call has ended; `seconds` is None where its time says nothing of the version: of a copy, or of a call that
        has waited for its process to start. Errors that are the caller's, or the start's, are not counted."""
        if isinstance(error, LlmosError) and (not isinstance(error, FAULTS) or error.detail.get("cold_start")):
            return
        arm = self.arm_of(ref)
        self._add(f"{arm}.{GuardMeasure.ERRORS}", float(error is not None))
        for key, limit_s in self._limits.items() if seconds is not None else ():
            self._add(f"{arm}.{key}", float(error is not None or seconds > limit_s))  # type: ignore[operator]  # not None

    def count_agreement(self, share: float) -> None:
        """Both versions have answered a call: the share of its inputs on which they agree."""
        self._add(str(GuardMeasure.AGREEMENT), share)

    def count_feedback(self, version: int, score: float, answer: str = "") -> bool:
        """Somebody has scored an answer of a version, from 0 to 1; False for a version of neither arm.

        An answer that is named has one score, the first: who says it often does not weigh more.
        """
        if version not in (self.rollout.plan.candidate, self.rollout.against) or answer in self._scored:
            return False
        if answer:
            self._scored[answer] = None
            if len(self._scored) > MOST_SCORED:
                del self._scored[next(iter(self._scored))]
        arm = CANDIDATE if version == self.rollout.plan.candidate else PROMOTED
        self._add(f"{arm}.{GuardMeasure.FEEDBACK}", min(max(score, 0.0), 1.0))
        return True

    def decision(self) -> RolloutDecision | None:
        """What the tallies decide now; asked after each observation, and cheap where nothing is due."""
        rollout = self.rollout
        if self.is_deciding or rollout.stage not in (Stage.RUNNING, Stage.HOLDING):
            return None
        self._seen += 1
        if not is_any_broken(rollout, self.tallies) and not self._is_due():
            return None
        return decide(self.present)

    def _is_due(self) -> bool:
        """Whether the calls of a step have just come; else only every few observations, for that look costs more."""
        rollout, is_look = self.rollout, self._seen % LOOK_EVERY == 0
        if rollout.plan.mode is Mode.AB:
            return is_look
        errors = self.tallies.get(f"{CANDIDATE}.{GuardMeasure.ERRORS}", NONE)
        if errors.count - rollout.step_from < rollout.plan.calls:
            return False
        return is_look or rollout.stage is Stage.RUNNING

    def _add(self, key: str, value: float) -> None:
        self.tallies[key] = self.tallies.get(key, NONE).plus(value)
