"""The traces of recent calls, in memory: a fixed number, the oldest dropped first. They hold no text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from llmos.abi.call import CallTimes
from llmos.abi.call_trace import CallTrace
from llmos.abi.trace_batch import TraceEntry

MOST_TRACES = 2_000


class RecentTraces:
    """Keeps what was measured as it is; it is added up when somebody asks. `export` gets all of it too."""

    def __init__(self, most: int = MOST_TRACES, export: Callable[[TraceEntry], None] | None = None) -> None:
        self._most = most
        self._export = export
        self._entries: OrderedDict[str, TraceEntry] = (
            OrderedDict()
        )  # a dict looks for its first among all that are gone

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: TraceEntry) -> None:
        """Keep a call that has ended; a request of several calls keeps the last one's."""
        entries = self._entries
        entries.pop(entry[0], None)
        entries[entry[0]] = entry
        if len(entries) > self._most:
            entries.popitem(last=False)
        if self._export is not None:
            self._export(entry)

    def get(self, call_id: str) -> CallTrace | None:
        found = self._entries.get(call_id)
        return None if found is None else _trace_of(found)


def _trace_of(entry: TraceEntry) -> CallTrace:
    call_id, at, model, task, outcome, seconds, stream_s, times, context, _ = entry
    stages = times or CallTimes()
    known_s = stages.queue_s + stages.tokenize_s + stages.batch_s + stages.compute_s + stages.parse_s
    return CallTrace(
        call_id,
        at,
        model,
        task,
        outcome,
        _ms(seconds),
        _ms(stages.queue_s),
        _ms(stages.tokenize_s),
        _ms(stages.batch_s),
        _ms(stages.compute_s),
        _ms(stages.parse_s),
        other_ms=_ms(max(seconds - known_s, 0.0)),
        stream_ms=_ms(stream_s),
        trace_id="" if context is None else context.trace_id,
        parent_id="" if context is None else context.parent_id,
        span_id="" if context is None else context.span_id,
    )


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
