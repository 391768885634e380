"""A search's journal: its records as JSON lines, each on the disk before anything follows from it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.wire import from_plain, to_json, to_plain
from llmos.tuning.history import KINDS, Record

WORDS = {kind: word for word, kind in KINDS.items()}


class SearchJournal:
    """The records in one file. A last line that a kill has cut off was never acted on, and is removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.records: list[Record] = []
        whole = 0
        if path.exists():
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            self.records = [_record(line) for line in data[:whole].splitlines()]
        self._file = path.open("ab")
        self._file.truncate(whole)

    def append(self, *records: Record) -> None:
        """Write these records at once, and wait until the disk has them."""
        lines = (to_json({"kind": WORDS[type(one)], **to_plain(one)}) + b"\n" for one in records)
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records.extend(records)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _record(line: bytes) -> Record:
    try:
        plain = msgspec.json.decode(line)
        return from_plain(plain, KINDS[plain.pop("kind")])
    except (msgspec.DecodeError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(f"The journal of this search is damaged: {line[:100]!r}") from error
