"""Recent calls with their text, in memory, so that feedback may name a call: bounded in bytes, never written."""

from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof

from llmos.abi.call_record import CallRecord
from llmos.abi.json_type import Json

RECORD_BYTES = 700  # of a record without its texts: the object, its numbers, and its place here
CONTAINER_BYTES = 64  # of a list or an object, and of each number
LARGEST_SHARE = 8  # a call may take this part of all bytes


class RecentCalls:
    """Calls by id, the oldest dropped first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._calls: dict[str, tuple[CallRecord, int]] = {}
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, record: CallRecord) -> None:
        """Keep a call with its text. One that would take an eighth of all bytes is not kept."""
        size_bytes = RECORD_BYTES + bytes_of(record.inputs) + bytes_of(record.outputs)
        if size_bytes * LARGEST_SHARE > self._limit_bytes:
            return
        self.remove(record.id)
        self._calls[record.id] = (record, size_bytes)
        self.held_bytes += size_bytes
        while self.held_bytes > self._limit_bytes:
            self.remove(next(iter(self._calls)))

    def get(self, call_id: str) -> CallRecord | None:
        found = self._calls.get(call_id)
        return None if found is None else found[0]

    def remove(self, call_id: str) -> None:
        """Drop this call, if it is here."""
        _, size_bytes = self._calls.pop(call_id, (None, 0))
        self.held_bytes -= size_bytes

    def erase(self, user: str) -> int:
        """Drop every call of this user; returns how many."""
        gone = [key for key, (record, _) in self._calls.items() if record.user == user]
        for key in gone:
            self.remove(key)
        return len(gone)

    def latest(self, matches: Callable[[CallRecord], bool]) -> CallRecord | None:
        """The latest call of which this is true."""
        return next((record for record, _ in reversed(list(self._calls.values())) if matches(record)), None)


def bytes_of(value: Json) -> int:
    """About how many bytes a JSON value takes in memory."""
    if isinstance(value, str):
        return getsizeof(value)
    if isinstance(value, dict):
        return CONTAINER_BYTES + sum(bytes_of(key) + bytes_of(one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return CONTAINER_BYTES + sum(map(bytes_of, value))
    return CONTAINER_BYTES
