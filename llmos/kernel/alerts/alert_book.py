"""The alert book: which alerts fire, what is still to be sent, and who is silenced. Changed only by events; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from llmos.abi.alert import Alert, AlertDelivery, AlertSilence, AlertState
from llmos.abi.error import NotFound
from llmos.kernel.effects import Effect
from llmos.kernel.event import Durability, Event

if TYPE_CHECKING:
    from llmos.kernel.processes.process_table import ProcessTable

KEEP_ENDED = 100


@dataclass(frozen=True, slots=True)
class AlertChanged(Event):
    """An alert begins, is told again, or ends, with the messages that follow from it.

    A full disk is among what alerts are about, so it is applied even if it cannot be written.
    """

    durability: ClassVar[Durability] = Durability.FSYNCED
    is_fact: ClassVar[bool] = True
    alert: Alert
    deliveries: tuple[AlertDelivery, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertAcknowledged(Event):
    """Somebody looks after this rule's alert: it is not told again."""

    durability: ClassVar[Durability] = Durability.FSYNCED
    rule: str


@dataclass(frozen=True, slots=True)
class AlertDeliveryTried(Event):
    """A message did not arrive, and is sent again at `next_at`."""

    is_quiet: ClassVar[bool] = True
    is_fact: ClassVar[bool] = True
    id: str
    next_at: float
    error: str


@dataclass(frozen=True, slots=True)
class AlertDeliveryEnded(Event):
    """A message has arrived; with an error, it is given up."""

    is_quiet: ClassVar[bool] = True
    is_fact: ClassVar[bool] = True
    id: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class AlertSilenced(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    silence: AlertSilence


@dataclass(frozen=True, slots=True)
class AlertSilenceEnded(Event):
    durability: ClassVar[Durability] = Durability.FSYNCED
    rule: str


@dataclass(frozen=True, slots=True)
class AlertBook:
    """Everything about alerts that survives the daemon. `firing` and `silences` are by rule, `deliveries` by id."""

    firing: dict[str, Alert] = field(default_factory=dict)
    ended: tuple[Alert, ...] = ()  # the newest first
    deliveries: dict[str, AlertDelivery] = field(default_factory=dict)
    silences: dict[str, AlertSilence] = field(default_factory=dict)

    def silenced_until(self, rule: str, at: float) -> float | None:
        """Until when nobody is told of this rule; None if it is not silenced."""
        silence = self.silences.get(rule)
        return silence.until if silence is not None and silence.until > at else None

    def check(self, event: Event) -> None:
        """Raise if a request cannot be done now."""
        if isinstance(event, AlertAcknowledged) and event.rule not in self.firing:
            raise NotFound(f"No alert of the rule {event.rule} fires. See: llmos alerts", rule=event.rule)
        if isinstance(event, AlertSilenceEnded) and self.silenced_until(event.rule, event.at) is None:
            raise NotFound(f"The rule {event.rule} is not silenced. See: llmos alerts", rule=event.rule)

    def after(self, event: Event) -> AlertBook:
        """The book once this has happened."""
        match event:
            case AlertChanged(alert=alert, deliveries=deliveries):
                firing = {rule: one for rule, one in self.firing.items() if rule != alert.rule}
                more = {**self.deliveries, **{one.id: one for one in deliveries}}
                if alert.state is AlertState.FIRING:
                    return replace(self, firing={**firing, alert.rule: alert}, deliveries=more)
                return replace(self, firing=firing, ended=(alert, *self.ended)[:KEEP_ENDED], deliveries=more)
            case AlertAcknowledged(at=at, rule=rule) if rule in self.firing:
                return replace(self, firing={**self.firing, rule: replace(self.firing[rule], acknowledged_at=at)})
            case AlertDeliveryTried(id=name, next_at=next_at, error=error) if name in self.deliveries:
                found = self.deliveries[name]
                tried = replace(found, attempts=found.attempts + 1, next_at=next_at, error=error)
                return replace(self, deliveries={**self.deliveries, name: tried})
            case AlertDeliveryEnded(id=name):
                left = {key: one for key, one in self.deliveries.items() if key != name}
                return replace(self, deliveries=left)
            case AlertSilenced(silence=silence):
                lasting = {rule: one for rule, one in self.silences.items() if one.until > event.at}
                return replace(self, silences={**lasting, silence.rule: silence})
            case AlertSilenceEnded(rule=rule):
                return replace(self, silences={key: one for key, one in self.silences.items() if key != rule})
        return self


def on_alert(table: ProcessTable, event: Event) -> list[Effect]:
    table.alert_book = table.alert_book.after(event)
    return []


# Any: each handler takes its own event type
HANDLERS: dict[type[Event], Callable[[ProcessTable, Any], list[Effect]]] = dict.fromkeys(
    (AlertChanged, AlertAcknowledged, AlertDeliveryTried, AlertDeliveryEnded, AlertSilenced, AlertSilenceEnded),
    on_alert,
)
