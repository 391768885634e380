"""Records of calls for the API: which are kept, for how long, and whether their text is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from llmos.abi.call_record import CallRecord, RequestFilter, is_sampled
from llmos.abi.call_trace import CallTrace
from llmos.abi.error import NotFound
from llmos.config import Config
from llmos.kernel.requests.call_row import AT, ID, OUTCOME, OUTPUTS, USER, CallRow, without_texts
from llmos.kernel.requests.erased_users import ErasedUsers
from llmos.kernel.requests.recent_calls import RecentCalls
from llmos.kernel.requests.recent_traces import MOST_TRACES, RecentTraces
from llmos.kernel.requests.request_log import FOLDER, RequestLog

if TYPE_CHECKING:
    from llmos.kernel.telemetry.trace_exporter import TraceExporter

OFF, SAMPLED, ALL = "off", "sampled", "all"


class RequestService:
    """Keeps recent calls in memory for feedback, and logs calls as the settings say."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        """`clock` is wall time."""
        self._clock = clock
        self._erased = ErasedUsers()
        self.log = RequestLog(config.home / FOLDER, config.request_log_days)
        self.recent = RecentCalls(config.recent_calls_bytes)
        self._exporter = _exporter_of(config)
        self.traces = RecentTraces(export=None if self._exporter is None else self._exporter.add)
        self._share = {OFF: 0.0, SAMPLED: config.request_log_share, ALL: 1.0}[config.request_log]
        self._logs_text = config.request_log_text
        self._others: list[Callable[[str], Awaitable[int]]] = []
        self._keeps_recent = config.recent_calls_bytes > 0
        self.is_on = self._keeps_recent or self._share > 0
        self.keeps_text = self._keeps_recent or (self._share > 0 and self._logs_text)

    @property
    def written_count(self) -> int:
        return self.log.written_count

    @property
    def lost_count(self) -> int:
        return self.log.lost_count

    @property
    def sent_traces_count(self) -> int:
        return 0 if self._exporter is None else self._exporter.sent_count

    @property
    def lost_traces_count(self) -> int:
        return 0 if self._exporter is None else self._exporter.lost_count

    def note(self, row: CallRow, priority: str = "") -> None:
        """Keep a call that has ended, and had this priority. One without texts is not kept in memory.

        Nothing is kept of a call whose user was erased while it was under way.
        """
        if row[USER] and self._erased.covers(row[USER], row[AT]):
            return
        if self._keeps_recent and row[OUTPUTS] and row[OUTCOME] == "ok":
            self.recent.add(row, priority)
        if self._share >= 1.0 or (self._share and is_sampled(row[ID], self._share)):
            self.log.add(row if self._logs_text else without_texts(row))

    def trace(self, call_id: str) -> CallTrace:
        """How long each stage of a recent call took."""
        found = self.traces.get(call_id)
        if found is None:
            raise NotFound(
                f"No trace of the call {call_id[:80]}. The last {MOST_TRACES:,} calls to models have one, until the "
                "daemon ends",
                call=call_id[:80],
            )
        return found

    async def find(self, wanted: RequestFilter) -> list[CallRecord]:
        return await self.log.find(wanted)

    async def get(self, call_id: str) -> CallRecord:
        found = await self.log.get(call_id)
        if found is None:
            raise NotFound(
                f"No call {call_id} in the request log. Was it on (setting request_log), and the call in its sample?",
                call=call_id,
            )
        return found

    def also_erase(self, erase: Callable[[str], Awaitable[int]]) -> None:
        """Erase a user's rows there too: another place that keeps texts of calls."""
        self._others.append(erase)

    async def erase(self, user: str) -> int:
        self._erased.add(user, self._clock())
        self.recent.erase(user)
        try:
            gone = await self.log.erase(user)
        finally:  # a day's file that is damaged keeps no text elsewhere
            others = sum([await erase(user) for erase in self._others])
        return gone + others

    async def sweep(self) -> None:
        """Remove the files of days that are over."""
        await self.log.sweep()

    def close(self) -> None:
        """Write and send what waits."""
        self.log.close()
        if self._exporter is not None:
            self._exporter.close()


def _exporter_of(config: Config) -> TraceExporter | None:
    """What sends traces to the settings' receiver of OpenTelemetry; None without one."""
    if not config.otel_endpoint:
        return None
    from llmos.kernel.telemetry.trace_exporter import exporter_to  # only who has a receiver needs it

    return exporter_to(config.otel_endpoint, config.home, config.otel_share)
