"""The ledger of a batch's lines: its files of answers and of errors, each in the order of the requests.

Answers are written in that order, so the two files say by themselves which lines are answered: no line twice, and none
missing before the last. What a crash has torn is cut off, and asked again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from llmos.abi.batch import ERRORS, OUTPUT


class WrittenLine(msgspec.Struct):
    """What is read again of a line that was written."""

    custom_id: str


WRITTEN = msgspec.json.Decoder(WrittenLine)


class BatchLedger:
    """Both files of a batch. Call `recover` once before `add`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {name: _AnswerFile(folder / name) for name in (OUTPUT, ERRORS)}
        self.completed = self.failed = 0

    @property
    def count(self) -> int:
        """So many lines are answered, the first ones."""
        return self.completed + self.failed

    def recover(self, custom_ids: Iterator[str]) -> None:
        """Find out how many of these requests are answered, and cut off what comes behind."""
        output, errors = self._files[OUTPUT], self._files[ERRORS]
        if output.next_id is not None or errors.next_id is not None:
            for custom_id in custom_ids:
                if output.next_id == custom_id:
                    output.keep()
                    self.completed += 1
                elif errors.next_id == custom_id:
                    errors.keep()
                    self.failed += 1
                else:
                    break
        output.begin()
        errors.begin()

    def add(self, line: bytes, *, is_error: bool) -> None:
        """The next request's answer, a line of JSON without its end; written by `flush`."""
        self._files[ERRORS if is_error else OUTPUT].add(line)
        if is_error:
            self.failed += 1
        else:
            self.completed += 1

    def flush(self, *, is_durable: bool = False) -> None:
        """Write what was added: it survives this process, and with `is_durable` the machine."""
        for file in self._files.values():
            file.flush(is_durable=is_durable)

    def close(self) -> None:
        """Write what was added, durably."""
        self.flush(is_durable=True)
        self.release()

    def release(self) -> None:
        """Close both files; what was added and not flushed is asked again."""
        for file in self._files.values():
            file.close()


class _AnswerFile:
    """One of the files: first read, as far as its lines are whole, then written on."""

    def __init__(self, path: Path) -> None:
        path.touch(0o600)
        self._file: BinaryIO = path.open("r+b")
        self._kept = 0  # bytes of lines that stay
        self._read = 0
        self._waiting: list[bytes] = []
        self.next_id = self._next()

    def keep(self) -> None:
        """The line that was read stays; read the next."""
        self._kept = self._read
        self.next_id = self._next()

    def _next(self) -> str | None:
        """The id of the next line; None at the end, or where a line is torn."""
        raw = self._file.readline()
        self._read += len(raw)
        if not raw.endswith(b"\n"):
            return None
        try:
            return WRITTEN.decode(raw).custom_id
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def begin(self) -> None:
        """Write on behind the lines that stay."""
        self._file.seek(self._kept)
        self._file.truncate()

    def add(self, line: bytes) -> None:
        self._waiting += (line, b"\n")

    def flush(self, *, is_durable: bool) -> None:
        if self._waiting:
            self._file.write(b"".join(self._waiting))
            self._waiting = []
            self._file.flush()
        if is_durable:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
