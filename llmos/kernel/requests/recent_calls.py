"""Recent calls with their text, in memory, so that feedback may name a call: bounded in bytes, never written.

Calls are kept by their source: a model's name, a key and a priority. When room is needed, the oldest call of the source
that holds the most makes it. So a burst from one source, such as a batch, drops its own calls and leaves others'.
"""

from __future__ import annotations

from collections import OrderedDict

from llmos.abi.call_record import CallRecord
from llmos.abi.json_type import Json
from llmos.kernel.requests.call_row import CallRow, record_of, size_of

LARGEST_SHARE = 8  # a call may take this part of all bytes
NONE = ("", 0)
Source = tuple[str, str, str]  # a model's name, a key's id, a priority


class RecentCalls:
    """Calls by id."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._calls: dict[str, tuple[CallRow, int, Source]] = {}
        # an OrderedDict: a dict looks for its first among all that are gone
        self._sources: dict[Source, OrderedDict[str, None]] = {}  # the ids of each, oldest first
        self._source_bytes: dict[Source, int] = {}
        # by a model's name and the only text: the newest call's id, empty until somebody asks, and how many there are
        self._newest: dict[tuple[str, str], tuple[str, int]] = {}
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, row: CallRow, priority: str = "") -> None:
        """Keep a call with its text. One that would take an eighth of all bytes is not kept."""
        size_bytes = size_of(row)
        if size_bytes * LARGEST_SHARE > self._limit_bytes:
            return
        call_id, name = row[0], _name_of(row)
        if call_id in self._calls:
            self.remove(call_id)
        source = (name, row[8], priority)
        self._calls[call_id] = (row, size_bytes, source)
        ids = self._sources.get(source)
        if ids is None:
            ids = self._sources[source] = OrderedDict()
            self._source_bytes[source] = 0
        ids[call_id] = None
        self._source_bytes[source] += size_bytes
        self.held_bytes += size_bytes
        if (text := _only_text(row)) is not None:
            _, count = self._newest.get((name, text), NONE)
            self._newest[name, text] = (call_id, count + 1)
        while self.held_bytes > self._limit_bytes:
            largest = max(self._source_bytes, key=self._source_bytes.__getitem__)
            self.remove(next(iter(self._sources[largest])))

    def get(self, call_id: str) -> CallRecord | None:
        found = self._calls.get(call_id)
        return None if found is None else record_of(found[0])

    def remove(self, call_id: str) -> None:
        """Drop this call, if it is here."""
        found = self._calls.pop(call_id, None)
        if found is None:
            return
        row, size_bytes, source = found
        self.held_bytes -= size_bytes
        self._source_bytes[source] -= size_bytes
        ids = self._sources[source]
        del ids[call_id]
        if not ids:
            del self._sources[source], self._source_bytes[source]
        if (text := _only_text(row)) is not None:
            newest, count = self._newest.pop((source[0], text))
            if count > 1:
                self._newest[source[0], text] = ("" if newest == call_id else newest, count - 1)

    def erase(self, user: str) -> int:
        """Drop every call of this user; returns how many."""
        gone = [call_id for call_id, (row, _, _) in self._calls.items() if row[9] == user]
        for call_id in gone:
            self.remove(call_id)
        return len(gone)

    def latest(self, name: str, given: Json) -> CallRecord | None:
        """The latest call to a version of this name with this one input. A text is looked up, all else is searched."""
        if isinstance(given, str):
            newest, count = self._newest.get((name, given), NONE)
            if newest or not count:
                return self.get(newest)
        found = (row for row, _, _ in reversed(self._calls.values()) if row[12] == (given,) and _name_of(row) == name)
        row = next(found, None)
        return None if row is None else record_of(row)


def _name_of(row: CallRow) -> str:
    return row[4].partition(":")[0]


def _only_text(row: CallRow) -> str | None:
    inputs = row[12]
    return inputs[0] if inputs is not None and len(inputs) == 1 and isinstance(inputs[0], str) else None
