"""Decides what becomes of a rule's alert at one look: it begins, is told, is told again, ends, or stays. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from llmos.abi.alert import Alert, AlertDelivery, AlertState, AlertStatus
from llmos.abi.json_type import Json
from llmos.kernel.alerts.rules_file import AlertRule

GONE = "the rule is gone"
NOT_TRUE = "the expression is not true any more"
MOST_DELIVERIES = 1_000  # that wait; beyond, an alert is kept and nobody is told


@dataclass(frozen=True, slots=True)
class AlertLook:
    """What is known of a rule at one moment.

    `true_for_s` is how long its expression has been true without a break; None: it is not true. `may_end` is false
    while the daemon has not watched for as long as the rule's windows, so that a restart ends no alert.
    """

    at: float
    true_for_s: float | None
    value: float | None = None
    data: dict[str, Json] | None = None
    is_silenced: bool = False
    may_end: bool = True


def next_alert(rule: AlertRule, alert: Alert | None, look: AlertLook, new_id: Callable[[], str]) -> Alert | None:
    """The alert as it is from now on; None if nothing changes."""
    if alert is None:
        if look.true_for_s is None or look.true_for_s < rule.for_s:
            return None
        begun = Alert(
            new_id(),
            rule.name,
            rule.severity,
            rule.summary,
            rule.text,
            look.at,
            labels=rule.labels,
            channels=rule.channels,
            value=look.value,
            data=look.data or {},
        )
        return begun if look.is_silenced else replace(begun, notified_at=look.at)
    if look.true_for_s is None:
        return end_alert(alert, look.at, NOT_TRUE) if look.may_end else None
    if look.is_silenced or alert.acknowledged_at is not None:
        return None
    is_due = alert.notified_at is None or (rule.repeat_s is not None and look.at - alert.notified_at >= rule.repeat_s)
    return replace(alert, notified_at=look.at, value=look.value) if is_due else None


def end_alert(alert: Alert, at: float, reason: str) -> Alert:
    return replace(alert, state=AlertState.RESOLVED, ended_at=at, reason=reason)


def messages(
    before: Alert | None,
    after: Alert,
    action: dict[str, Json],
    channels: Collection[str],
    *,
    is_silenced: bool,
    new_id: Callable[[], str],
) -> tuple[AlertDelivery, ...]:
    """What follows from a change: messages to the alert's channels that exist; at the first also the rule's action.

    The end of an alert is told to those who were told of it, unless it is silenced.
    """
    if after.state is AlertState.RESOLVED:
        if after.notified_at is None or is_silenced:
            return ()
        status, at, action = AlertStatus.RESOLVED, after.ended_at or 0.0, {}
    elif after.notified_at is None:
        return ()
    else:
        status, at = AlertStatus.FIRING, after.notified_at
        if before is not None and before.notified_at is not None:
            action = {}
    told = [
        AlertDelivery(new_id(), channel, after.rule, after, status, at, next_at=at)
        for channel in after.channels
        if channel in channels
    ]
    if action:
        told.append(AlertDelivery(new_id(), "", after.rule, after, status, at, next_at=at, action=action))
    return tuple(told)
