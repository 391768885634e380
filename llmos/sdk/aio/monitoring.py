"""Monitoring: drift, and objectives for errors and latency."""

from __future__ import annotations

from llmos.abi.monitoring import MonitorState
from llmos.abi.slo import SloState
from llmos.sdk import monitoring_requests
from llmos.sdk.aio.connection import AsyncDaemonConnection
from llmos.sdk.transport import check_reply


class AsyncMonitoringClient(AsyncDaemonConnection):
    """Monitoring: drift, and objectives for errors and latency."""

    async def monitor(self, name: str) -> MonitorState:
        """What the monitor of a name has found: signals, alarms, accuracy."""
        return await self._ask(monitoring_requests.monitor(name, "GET"))

    async def monitor_report(self, name: str) -> str:
        """The report page of a monitor's newest look, as HTML."""
        response = await self._send("GET", monitoring_requests.report_path(name))
        if not response.is_success:
            check_reply(response)
        return response.text

    async def start_monitor(self, name: str) -> MonitorState:
        """Compare the calls to a name with its version's evaluation rows from now on."""
        return await self._ask(monitoring_requests.monitor(name, "POST"))

    async def stop_monitor(self, name: str) -> MonitorState:
        """End the monitor of a name; what it has found stays."""
        return await self._ask(monitoring_requests.monitor(name, "DELETE"))

    async def slos(self) -> list[SloState]:
        """How the objectives of all names stand."""
        return await self._ask(monitoring_requests.slos())

    async def slo(self, name: str) -> SloState:
        """How a name's objectives stand: calls, bad ones, burn rates, what is left of each budget."""
        return await self._ask(monitoring_requests.slo(name))

    async def set_slo(self, name: str, **objectives: str | float) -> SloState:
        """Give a name objectives, such as p99="50ms" and errors="0.1%", in place of those that it has."""
        return await self._ask(monitoring_requests.set_slo(name, objectives))

    async def remove_slo(self, name: str) -> SloState:
        """Remove a name's objectives, and what was counted for them."""
        return await self._ask(monitoring_requests.remove_slo(name))
