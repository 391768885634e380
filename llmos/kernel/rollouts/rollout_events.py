"""Events of rollouts, and what they change in the process table. Pure, as all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from llmos.abi.error import Conflict, IllegalMove, NotFound
from llmos.abi.rollout import Rollout, RolloutNote, Stage, Tally
from llmos.kernel.effects import Effect, SetPromoted
from llmos.kernel.event import Durability, Event
from llmos.kernel.rollouts.decision import RolloutVerdict

if TYPE_CHECKING:
    from llmos.kernel.events import PromotionChanged, PromotionRefused
    from llmos.kernel.processes.process_table import ProcessTable

KEEP_ENDED = 5  # of a name
GOES_ON = frozenset({Stage.RUNNING, Stage.HOLDING})


@dataclass(frozen=True, slots=True)
class RolloutStarted(Event):
    """A request to begin this rollout; a name has one at a time."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    rollout: Rollout


@dataclass(frozen=True, slots=True)
class RolloutStopped(Event):
    """A request to end a rollout: all calls go to the promoted version again."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    name: str
    reason: str
    tallies: dict[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RolloutDecided(Event):
    """What has been counted decides this; ignored if the rollout has ended or gone on meanwhile."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    name: str
    rollout_id: str
    step: int  # at which it was decided
    verdict: RolloutVerdict
    reason: str
    figures: dict[str, float]
    tallies: dict[str, Tally]


@dataclass(frozen=True, slots=True)
class RolloutCounted(Event):
    """What a rollout has counted so far, so that a kill of the daemon loses a moment of it and no more."""

    is_quiet: ClassVar[bool] = True
    name: str
    rollout_id: str
    tallies: dict[str, Tally]


def check_rollout(table: ProcessTable, event: Event) -> None:
    """Raise if a request about a rollout cannot be done now."""
    if isinstance(event, RolloutStarted) and (running := table.rollouts.get(event.rollout.name)) is not None:
        raise Conflict(
            f"{running.candidate_ref} is being rolled out already ({running.summary}). End that first: "
            f"llmos rollout {running.name} --stop",
            name=running.name,
            candidate=running.plan.candidate,
        )
    if isinstance(event, RolloutStopped):
        found = table.rollouts.get(event.name)
        if found is None:
            raise NotFound(
                f"No rollout of {event.name} is under way. Begin one: llmos rollout {event.name} --candidate N"
            )
        if found.stage is Stage.PROMOTING:
            raise IllegalMove(
                f"{found.candidate_ref} is being promoted just now. Take it back: llmos rollback {found.name}",
                name=found.name,
            )


def on_started(table: ProcessTable, event: RolloutStarted) -> list[Effect]:
    rollout = event.rollout
    of = f"{rollout.candidate_ref} beside {rollout.promoted_ref}, {rollout.plan.mode} at {rollout.share:.0%}"
    table.rollouts = {**table.rollouts, rollout.name: _with_note(rollout, event.at, "started", of)}
    return []


def on_stopped(table: ProcessTable, event: RolloutStopped) -> list[Effect]:
    found = table.rollouts.get(event.name)
    if found is not None and found.stage in GOES_ON:
        tallies = event.tallies or found.tallies
        _end(table, replace(found, tallies=tallies), event.at, Stage.STOPPED, "stopped", event.reason)
    return []


def on_counted(table: ProcessTable, event: RolloutCounted) -> list[Effect]:
    found = table.rollouts.get(event.name)
    if found is not None and found.id == event.rollout_id:
        table.rollouts = {**table.rollouts, event.name: replace(found, tallies=event.tallies)}
    return []


def on_decided(table: ProcessTable, event: RolloutDecided) -> list[Effect]:
    found = table.rollouts.get(event.name)
    if found is None or found.id != event.rollout_id or found.step != event.step or found.stage not in GOES_ON:
        return []
    rollout = replace(found, tallies=event.tallies)
    match event.verdict:
        case RolloutVerdict.ROLL_BACK:
            _end(table, rollout, event.at, Stage.ROLLED_BACK, "rolled_back", event.reason, event.figures)
        case RolloutVerdict.FINISH:
            _end(table, rollout, event.at, Stage.FINISHED, "finished", event.reason, event.figures)
        case RolloutVerdict.HOLD if found.stage is Stage.RUNNING:
            rollout = replace(rollout, stage=Stage.HOLDING)
            _put(table, _with_note(rollout, event.at, "hold", event.reason, event.figures))
        case RolloutVerdict.STEP:
            rollout = replace(rollout, stage=Stage.RUNNING, step=rollout.step + 1, step_from=rollout.candidate_calls)
            _put(table, _with_note(rollout, event.at, "step", event.reason, event.figures))
        case RolloutVerdict.PROMOTE:
            rollout = replace(rollout, stage=Stage.PROMOTING)
            _put(table, _with_note(rollout, event.at, "promoting", event.reason, event.figures))
            move = SetPromoted(
                rollout.name, rollout.plan.candidate, rollout.id, guarded=True, against=rollout.promoted_ref
            )
            table.pending_commits.moves[rollout.id] = move
            return [move]
    return []


def on_promotion_changed(table: ProcessTable, event: PromotionChanged) -> list[Effect]:
    """Its own promotion ends a rollout; somebody else's stops it, because what it compares with has changed."""
    found = table.rollouts.get(event.name)
    if found is None:
        return []
    if event.ticket == found.id:
        _end(table, found, event.at, Stage.DONE, "promoted", f"{found.candidate_ref} is promoted")
    elif event.version != found.against:
        why = f"{event.name}:{event.version} was promoted meanwhile"
        _end(table, found, event.at, Stage.STOPPED, "stopped", why)
    return []


def on_promotion_refused(table: ProcessTable, event: PromotionRefused) -> list[Effect]:
    found = table.rollouts.get(event.name)
    if found is not None and event.ticket == found.id:
        _end(table, found, event.at, Stage.REFUSED, "refused", event.fault.message)
    return []


def _put(table: ProcessTable, rollout: Rollout) -> None:
    table.rollouts = {**table.rollouts, rollout.name: rollout}


def _end(
    table: ProcessTable,
    rollout: Rollout,
    at: float,
    stage: Stage,
    what: str,
    reason: str,
    figures: dict[str, float] | None = None,
) -> None:
    ended = _with_note(replace(rollout, stage=stage, ended_at=at), at, what, reason, figures)
    table.rollouts = {name: one for name, one in table.rollouts.items() if name != rollout.name}
    earlier = (ended, *table.ended_rollouts.get(rollout.name, ()))[:KEEP_ENDED]
    table.ended_rollouts = {**table.ended_rollouts, rollout.name: earlier}


def _with_note(rollout: Rollout, at: float, what: str, reason: str, figures: dict[str, float] | None = None) -> Rollout:
    note = RolloutNote(at, what, reason, rollout.share, figures or {})
    return replace(rollout, history=(*rollout.history, note))


# Any: each handler takes its own event type
HANDLERS: dict[type[Event], Callable[[ProcessTable, Any], list[Effect]]] = {
    RolloutStarted: on_started,
    RolloutStopped: on_stopped,
    RolloutCounted: on_counted,
    RolloutDecided: on_decided,
}
