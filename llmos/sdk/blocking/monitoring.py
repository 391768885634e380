"""Parts of Client. Made by tools/sync_client.py from aio/monitoring.py: edit that file."""

from __future__ import annotations

from llmos.abi.monitoring import MonitorState
from llmos.abi.slo import SloState
from llmos.sdk import monitoring_requests
from llmos.sdk.blocking.connection import DaemonConnection
from llmos.sdk.transport import check_reply


class MonitoringClient(DaemonConnection):
    """Monitoring: drift, and objectives for errors and latency."""

    def monitor(self, name: str) -> MonitorState:
        """What the monitor of a name has found: signals, alarms, accuracy."""
        return self._ask(monitoring_requests.monitor(name, "GET"))

    def monitor_report(self, name: str) -> str:
        """The report page of a monitor's newest look, as HTML."""
        response = self._send("GET", monitoring_requests.report_path(name))
        if not response.is_success:
            check_reply(response)
        return response.text

    def start_monitor(self, name: str) -> MonitorState:
        """Compare the calls to a name with its version's evaluation rows from now on."""
        return self._ask(monitoring_requests.monitor(name, "POST"))

    def stop_monitor(self, name: str) -> MonitorState:
        """End the monitor of a name; what it has found stays."""
        return self._ask(monitoring_requests.monitor(name, "DELETE"))

    def slos(self) -> list[SloState]:
        """How the objectives of all names stand."""
        return self._ask(monitoring_requests.slos())

    def slo(self, name: str) -> SloState:
        """How a name's objectives stand: calls, bad ones, burn rates, what is left of each budget."""
        return self._ask(monitoring_requests.slo(name))

    def set_slo(self, name: str, **objectives: str | float) -> SloState:
        """Give a name objectives, such as p99="50ms" and errors="0.1%", in place of those that it has."""
        return self._ask(monitoring_requests.set_slo(name, objectives))

    def remove_slo(self, name: str) -> SloState:
        """Remove a name's objectives, and what was counted for them."""
        return self._ask(monitoring_requests.remove_slo(name))
