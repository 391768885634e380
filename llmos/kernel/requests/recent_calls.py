"""Recent calls with their text, in memory, so that feedback may name a call: bounded in bytes, never written.

Calls are kept by their source: a model's name, a key and a priority. When room is needed, the oldest call of the source
that holds the most makes it. So a burst from one source, such as a batch, drops its own calls and leaves others'.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

from llmos.abi.call_record import CallRecord
from llmos.abi.json_type import Json
from llmos.kernel.requests.call_row import ID, INPUTS, KEY, MODEL, USER, CallRow, record_of, size_of

LARGEST_SHARE = 8  # a call may take this part of all bytes
NONE = ("", 0)
VOID_ENTRIES = 1_000  # of the heap, until it is made anew
Source = tuple[str, str, str]  # a model's name, a key's id, a priority


class RecentCalls:
    """Calls by id."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._calls: dict[str, tuple[CallRow, int, Source]] = {}
        self._sources = CallSources()
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
        call_id, name = row[ID], _name_of(row)
        if call_id in self._calls:
            self.remove(call_id)
        source = (name, row[KEY], priority)
        self._calls[call_id] = (row, size_bytes, source)
        self._sources.add(source, call_id, size_bytes)
        self.held_bytes += size_bytes
        if (text := _only_text(row)) is not None:
            _, count = self._newest.get((name, text), NONE)
            self._newest[name, text] = (call_id, count + 1)
        while self.held_bytes > self._limit_bytes:
            self.remove(self._sources.oldest_of_largest())

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
        self._sources.remove(source, call_id, size_bytes)
        if (text := _only_text(row)) is not None:
            newest, count = self._newest.pop((source[0], text))
            if count > 1:
                self._newest[source[0], text] = ("" if newest == call_id else newest, count - 1)

    def erase(self, user: str) -> int:
        """Drop every call of this user; returns how many."""
        gone = [call_id for call_id, (row, _, _) in self._calls.items() if row[USER] == user]
        for call_id in gone:
            self.remove(call_id)
        return len(gone)

    def latest(self, name: str, given: Json) -> CallRecord | None:
        """The latest call to a version of this name with this one input. A text is looked up, all else is searched."""
        if isinstance(given, str):
            newest, count = self._newest.get((name, given), NONE)
            if newest or not count:
                return self.get(newest)
        found = (
            row for row, _, _ in reversed(self._calls.values()) if row[INPUTS] == (given,) and _name_of(row) == name
        )
        row = next(found, None)
        return None if row is None else record_of(row)


class CallSources:
    """The ids of each source's calls, oldest first, with their bytes. Finding the largest source costs the logarithm of
    their number, on average."""

    def __init__(self, held_bytes: dict[Source, int] | None = None) -> None:
        """`held_bytes` is the table of each source's bytes, which is this object's from then on."""
        # an OrderedDict: a dict looks for its first among all that are gone
        self._ids: dict[Source, OrderedDict[str, None]] = {}
        self._bytes: dict[Source, int] = {} if held_bytes is None else held_bytes
        # a heap of each source's bytes, negative: when it was entered it held so many, and since then at most so many
        self._entries: list[tuple[int, Source]] = []
        self._entered: dict[Source, int] = {}  # the bytes of its entry; entries with others are void

    def add(self, source: Source, call_id: str, size_bytes: int) -> None:
        """One more call of this source, the newest."""
        ids = self._ids.get(source)
        if ids is None:
            ids = self._ids[source] = OrderedDict()
            self._bytes[source] = self._entered[source] = 0
        ids[call_id] = None
        held = self._bytes[source] = self._bytes[source] + size_bytes
        if held > self._entered[source]:
            self._enter(source, held)

    def remove(self, source: Source, call_id: str, size_bytes: int) -> None:
        """Drop a call; a source without calls is forgotten."""
        ids = self._ids[source]
        del ids[call_id]
        self._bytes[source] -= size_bytes
        if not ids:
            del self._ids[source], self._bytes[source], self._entered[source]

    def oldest_of_largest(self) -> str:
        """The id of the oldest call of the source that holds the most bytes; there is one."""
        while True:
            entered, source = -self._entries[0][0], self._entries[0][1]
            held = self._bytes.get(source)
            if held is None or entered != self._entered[source]:
                heapq.heappop(self._entries)
            elif held < entered:
                self._entered[source] = held
                heapq.heapreplace(self._entries, (-held, source))
            else:
                return next(iter(self._ids[source]))

    def _enter(self, source: Source, held: int) -> None:
        self._entered[source] = held
        heapq.heappush(self._entries, (-held, source))
        if len(self._entries) > VOID_ENTRIES + 2 * len(self._ids):
            self._entries = [(-entered, source) for source, entered in self._entered.items()]
            heapq.heapify(self._entries)


def _name_of(row: CallRow) -> str:
    return row[MODEL].partition(":")[0]


def _only_text(row: CallRow) -> str | None:
    inputs = row[INPUTS]
    return inputs[0] if inputs is not None and len(inputs) == 1 and isinstance(inputs[0], str) else None
