"""Parts of Client. Made by tools/sync_client.py from aio/alerts.py: edit that file."""

from __future__ import annotations

from llmos.abi.alert import Alert, AlertSilence, AlertsView, AlertTest
from llmos.sdk import alert_requests
from llmos.sdk.blocking.connection import DaemonConnection


class AlertsClient(DaemonConnection):
    """Alerts: rules and what they find, silences, acknowledgements and test messages."""

    def alerts(self) -> AlertsView:
        """Rules, channels, alerts, silences, and messages that wait."""
        return self._ask(alert_requests.alerts())

    def reload_alerts(self) -> AlertsView:
        """Read the home's alerts.toml now; BadInput, with the line, for a mistake in it."""
        return self._ask(alert_requests.reload_alerts())

    def test_alerts(self, channel: str | None = None) -> list[AlertTest]:
        """Send a test message to this channel, or to all; returns what went wrong with each."""
        return self._ask(alert_requests.test_alerts(channel))

    def silence_alert(self, rule: str, for_s: float, *, reason: str = "") -> AlertSilence:
        """Tell nobody of this rule for so many seconds."""
        return self._ask(alert_requests.silence_alert(rule, for_s, reason))

    def end_alert_silence(self, rule: str) -> str:
        """End a silence; returns the rule."""
        return self._ask(alert_requests.end_alert_silence(rule))

    def acknowledge_alert(self, rule: str) -> Alert:
        """Do not tell of the rule's alert again until it ends."""
        return self._ask(alert_requests.acknowledge_alert(rule))
