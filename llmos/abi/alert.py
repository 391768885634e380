"""Alerts: what a rule of the home's alerts.toml has found, who is told, and for how long nobody is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from llmos.abi.json_type import Json


class AlertSeverity(StrEnum):
    """How much a rule's alert matters; the daemon treats all alike, channels show it."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """Where an alert stands. `pending`: its expression is true, but not for long enough yet."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class AlertStatus(StrEnum):
    """What a message says of its alert."""

    FIRING = "firing"
    RESOLVED = "resolved"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Alert:
    """One time that a rule's expression was true, for as long as the rule asks. Times are seconds since the epoch.

    `value` is the number that the first comparison of the expression compares; `data` is that of
    the last event which the rule counts. `notified_at` is None while nobody was told.
    """

    id: str
    rule: str
    severity: AlertSeverity
    summary: str
    expression: str
    started_at: float
    state: AlertState = AlertState.FIRING
    labels: dict[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    value: float | None = None
    data: dict[str, Json] = field(default_factory=dict)
    notified_at: float | None = None
    acknowledged_at: float | None = None
    ended_at: float | None = None
    reason: str = ""  # why it ended


@dataclass(frozen=True, slots=True)
class AlertDelivery:
    """A message that one channel is to get, or a rule's action that is to be done, until it has worked or is given up.

    `id` stays the same for every attempt. `channel` is empty for an action.
    """

    id: str
    channel: str
    rule: str
    alert: Alert
    status: AlertStatus
    created_at: float
    attempts: int = 0
    next_at: float = 0.0
    error: str = ""  # of the last attempt
    action: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertSilence:
    """Until then nobody is told of this rule's alerts."""

    rule: str
    created_at: float
    until: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AlertRuleView:
    """A rule as it is shown, with what it finds now. `value` is as an alert's; None: there is nothing to compare."""

    name: str
    expression: str
    for_s: float
    severity: AlertSeverity
    summary: str
    labels: dict[str, str]
    channels: tuple[str, ...]
    action: dict[str, Json] = field(default_factory=dict)
    repeat_s: float | None = None
    is_true: bool = False
    value: float | None = None
    true_since: float | None = None
    silenced_until: float | None = None


@dataclass(frozen=True, slots=True)
class AlertChannelView:
    """A channel as it is shown: its address without what is secret, and what it has sent since the daemon's start."""

    name: str
    kind: str
    target: str
    sent: int = 0
    failed: int = 0
    error: str = ""  # of its last attempt, if that failed


@dataclass(frozen=True, slots=True)
class AlertsView:
    """Everything about alerts. `problem` says why the file on the disk is not in use; the rules before it are."""

    path: str
    rules: tuple[AlertRuleView, ...] = ()
    channels: tuple[AlertChannelView, ...] = ()
    alerts: tuple[Alert, ...] = ()  # those that fire, then the ended ones, the newest first
    silences: tuple[AlertSilence, ...] = ()
    deliveries: tuple[AlertDelivery, ...] = ()  # not done yet
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AlertTest:
    """How a test message to a channel went; `error` is empty if it has arrived."""

    channel: str
    error: str = ""
