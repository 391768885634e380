"""Alerts: rules and what they find, silences, acknowledgements and test messages."""

from __future__ import annotations

from llmos.abi.alert import Alert, AlertSilence, AlertsView, AlertTest
from llmos.sdk import alert_requests
from llmos.sdk.aio.connection import AsyncDaemonConnection


class AsyncAlertsClient(AsyncDaemonConnection):
    """Alerts: rules and what they find, silences, acknowledgements and test messages."""

    async def alerts(self) -> AlertsView:
        """Rules, channels, alerts, silences, and messages that wait."""
        return await self._ask(alert_requests.alerts())

    async def reload_alerts(self) -> AlertsView:
        """Read the home's alerts.toml now; BadInput, with the line, for a mistake in it."""
        return await self._ask(alert_requests.reload_alerts())

    async def test_alerts(self, channel: str | None = None) -> list[AlertTest]:
        """Send a test message to this channel, or to all; returns what went wrong with each."""
        return await self._ask(alert_requests.test_alerts(channel))

    async def silence_alert(self, rule: str, for_s: float, *, reason: str = "") -> AlertSilence:
        """Tell nobody of this rule for so many seconds."""
        return await self._ask(alert_requests.silence_alert(rule, for_s, reason))

    async def end_alert_silence(self, rule: str) -> str:
        """End a silence; returns the rule."""
        return await self._ask(alert_requests.end_alert_silence(rule))

    async def acknowledge_alert(self, rule: str) -> Alert:
        """Do not tell of the rule's alert again until it ends."""
        return await self._ask(alert_requests.acknowledge_alert(rule))
