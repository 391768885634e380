"""A serve process as the router sees it: attached models, calls in flight and calls waiting."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from llmos.kernel.calls.call_queue import CallQueue
from llmos.kernel.calls.pending_call import Lane, PendingCall
from llmos.kernel.processes.eviction import RecentUse

SETTLES_S = 0.25  # so long a model that was brought stays in any case


@dataclass(slots=True, eq=False)
class ServeProcess:
    """One serve process, as calls see it."""

    pid: int
    base: str
    device: str
    engine: str
    waiting: CallQueue
    is_ready: bool = False
    is_returning: bool = False  # it was asked to end and to start again: its end is no crash of its calls
    models: set[str] = field(default_factory=set)  # attached, so that calls may name them
    attaching: set[str] = field(default_factory=set)
    sent: dict[int, PendingCall] = field(default_factory=dict)
    in_hand: Counter[Lane] = field(default_factory=Counter)  # what was sent and is not computed yet
    calls_of: Counter[str] = field(default_factory=Counter)  # how many calls, sent or waiting, name each model
    uses: dict[str, RecentUse] = field(default_factory=dict)  # of each model ever called here
    came_at: dict[str, float] = field(default_factory=dict)  # when each attached model did
    asked_at: dict[str, float] = field(default_factory=dict)  # since when each attaching one is waited for
    yielding: set[str] = field(default_factory=set)  # attached ones whose calls wait, so that another may come
    sent_of: Counter[str] = field(default_factory=Counter)  # how many calls in hand name each model
    apart: dict[int, PendingCall] = field(
        default_factory=dict
    )  # calls of which one ended it: they are sent one at a time
    used_at: float = 0.0
    ready_at: float = 0.0
    is_yielding: bool = False  # its calls wait, so that another base may come
    yields_since: float = 0.0

    def resting(self, now: float) -> set[str]:
        """The attached models that nobody needs just now, or that have yielded and have no call in hand.

        One that has only just come is not among them: who called it is likely to call again.
        """
        idle = {model for model in self.came_at if not self.calls_of[model] or model in self.yielding}
        return {model for model in idle if not self.sent_of[model] and now - self.came_at[model] >= SETTLES_S}

    def wanted(self) -> set[str]:
        """The models that calls wait for here."""
        return self.attaching & self.calls_of.keys() if self.attaching else set()

    def forget(self, model: str) -> None:
        """It is not attached here any more."""
        self.models.discard(model)
        self.came_at.pop(model, None)
        self.yielding.discard(model)

    def unsend(self, opened: PendingCall) -> None:
        """The process has it in hand no more, if it had."""
        if self.sent.pop(opened.call.call_id, None) is not None:
            self.in_hand[opened.lane] -= opened.size - opened.done
            self.sent_of[opened.call.model] -= 1
            opened.is_sent, opened.done = False, 0
