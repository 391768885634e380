"""Commits and promotions that the store has not finished; a restart does them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmos.abi.model import Offer, OfferKind
from llmos.kernel.effects import Accept, Commit, Effect, SetPromoted
from llmos.kernel.events import (
    CommitFailed,
    Committed,
    Event,
    Offered,
    PromotionAsked,
    PromotionChanged,
    PromotionRefused,
)
from llmos.kernel.rollouts import rollout_events

if TYPE_CHECKING:
    from llmos.kernel.processes.process_table import ProcessTable


@dataclass(slots=True)
class PendingCommits:
    """Unfinished commits and promotions, by process and offer, and by ticket. Only the table changes it."""

    commits: dict[str, Commit] = field(default_factory=dict)
    moves: dict[str, SetPromoted] = field(default_factory=dict)

    def remaining_effects(self) -> list[Effect]:
        """Effects to repeat after a restart; each has no effect if it was done already."""
        return [*self.commits.values(), *self.moves.values()]

    def offered(self, event: Offered, born: float) -> list[Effect]:
        commit = Commit(event.pid, event.offer, born)
        self.commits[_key(event.pid, event.offer.offer_id)] = commit
        return [commit]

    def committed(self, event: Committed) -> tuple[Offer | None, list[Effect]]:
        """The offer is committed: promote it first if the gate said so, then tell the child."""
        key = _key(event.pid, event.offer_id)
        commit = self.commits.pop(key, None)
        answer = Accept(event.pid, event.offer_id, event.ref, event.folder)
        if commit is None:
            return None, [answer]
        verdict = commit.offer.verdict
        if verdict is None or not verdict.promote:
            return commit.offer, [answer]
        name, _, version = event.ref.partition(":")
        move = SetPromoted(name, int(version), ticket=key, guarded=True, against=verdict.against, answer=answer)
        self.moves[key] = move
        return commit.offer, [move]

    def commit_failed(self, event: CommitFailed) -> list[Effect]:
        self.commits.pop(_key(event.pid, event.offer_id), None)
        return [Accept(event.pid, event.offer_id, fault=event.fault)]

    def move_asked(self, event: PromotionAsked) -> list[Effect]:
        move = SetPromoted(event.name, event.version, event.ticket, back_from=event.back_from)
        self.moves[event.ticket] = move
        return [move]

    def moved(self, event: PromotionChanged | PromotionRefused) -> list[Effect]:
        """A promotion has ended, in either way: the child that made the offer learns that it is committed."""
        move = self.moves.pop(event.ticket, None)
        return [move.answer] if move is not None and move.answer is not None else []


def _key(pid: int, offer_id: int) -> str:
    return f"{pid}/{offer_id}"


# Handlers of the outcomes.


def on_offered(table: ProcessTable, event: Offered) -> list[Effect]:
    return table.pending_commits.offered(event, table.process(event.pid).created_at)


def on_committed(table: ProcessTable, event: Committed) -> list[Effect]:
    offer, effects = table.pending_commits.committed(event)
    process = table.processes.get(event.pid)
    if offer is not None and process is not None and offer.kind is not OfferKind.RESIDENT:
        made = process.made if event.ref in process.made else (*process.made, event.ref)
        reason = offer.verdict.reason if offer.verdict is not None else process.reason
        table.put(replace(process, made=made, reason=reason))
    return effects


def on_commit_failed(table: ProcessTable, event: CommitFailed) -> list[Effect]:
    return table.pending_commits.commit_failed(event)


def on_promotion_asked(table: ProcessTable, event: PromotionAsked) -> list[Effect]:
    return table.pending_commits.move_asked(event)


def on_promotion_changed(table: ProcessTable, event: PromotionChanged) -> list[Effect]:
    effects = table.pending_commits.moved(event)
    return effects + rollout_events.on_promotion_changed(table, event) if event.name in table.rollouts else effects


def on_promotion_refused(table: ProcessTable, event: PromotionRefused) -> list[Effect]:
    effects = table.pending_commits.moved(event)
    if event.name in table.rollouts:
        effects += rollout_events.on_promotion_refused(table, event)
    for effect in effects:
        if isinstance(effect, Accept) and effect.pid in table.processes:
            table.put(replace(table.processes[effect.pid], reason=event.fault.message))
    return effects


# Any: each handler takes its own event type
HANDLERS: dict[type[Event], Callable[[ProcessTable, Any], list[Effect]]] = {
    Offered: on_offered,
    Committed: on_committed,
    CommitFailed: on_commit_failed,
    PromotionAsked: on_promotion_asked,
    PromotionChanged: on_promotion_changed,
    PromotionRefused: on_promotion_refused,
}
