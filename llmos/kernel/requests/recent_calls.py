"""Recent calls with their text, in memory, so that feedback may name a call: bounded in bytes, never written."""

from __future__ import annotations

from sys import getsizeof

from llmos.abi.call_record import CallRecord
from llmos.abi.json_type import Json

RECORD_BYTES = 900  # of a record without its texts: the object, its numbers, and its places here
CONTAINER_BYTES = 64  # of a list or an object, and of each number
LARGEST_SHARE = 8  # a call may take this part of all bytes


class RecentCalls:
    """Calls by id, the oldest dropped first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._calls: dict[str, tuple[CallRecord, int]] = {}
        self._newest: dict[tuple[str, str], str] = {}  # by a model's name and the only text: the newest call's id
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
        if (key := _text_key(record)) is not None:
            self._newest[key] = record.id
        while self.held_bytes > self._limit_bytes:
            self.remove(next(iter(self._calls)))

    def get(self, call_id: str) -> CallRecord | None:
        found = self._calls.get(call_id)
        return None if found is None else found[0]

    def remove(self, call_id: str) -> None:
        """Drop this call, if it is here."""
        record, size_bytes = self._calls.pop(call_id, (None, 0))
        self.held_bytes -= size_bytes
        key = None if record is None else _text_key(record)
        if key is not None and self._newest.get(key) == call_id:
            del self._newest[key]

    def erase(self, user: str) -> int:
        """Drop every call of this user; returns how many."""
        gone = [call_id for call_id, (record, _) in self._calls.items() if record.user == user]
        for call_id in gone:
            self.remove(call_id)
        if gone:  # an earlier call with the same text is now the newest
            texts = ((_text_key(record), call_id) for call_id, (record, _) in self._calls.items())
            self._newest = {key: call_id for key, call_id in texts if key is not None}
        return len(gone)

    def latest(self, name: str, given: Json) -> CallRecord | None:
        """The latest call to a version of this name with this one input. A text is looked up, all else is searched."""
        if isinstance(given, str):
            return self.get(self._newest.get((name, given), ""))
        found = reversed(self._calls.values())
        return next((one for one, _ in found if one.inputs == (given,) and _name_of(one) == name), None)


def _name_of(record: CallRecord) -> str:
    return record.model.partition(":")[0]


def _text_key(record: CallRecord) -> tuple[str, str] | None:
    inputs = record.inputs
    if inputs is None or len(inputs) != 1 or not isinstance(inputs[0], str):
        return None
    return _name_of(record), inputs[0]


def bytes_of(value: Json) -> int:
    """About how many bytes a JSON value takes in memory."""
    if isinstance(value, str):
        return getsizeof(value)
    if isinstance(value, dict):
        return CONTAINER_BYTES + sum(bytes_of(key) + bytes_of(one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return CONTAINER_BYTES + sum(map(bytes_of, value))
    return CONTAINER_BYTES
