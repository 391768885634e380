"""Reads a process's log across rotated files: all of it, its last lines, or followed as it grows."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import AsyncGenerator, Callable
from io import FileIO
from pathlib import Path

from llmos.kernel.children.logs import rotated_numbers, rotated_path

LOOK_EVERY_S = 0.2
BLOCK_BYTES = 1 << 16
GAP = b"[... %d full files of this log were removed here ...]\n"


def read_log(path: Path, tail_lines: int | None = None) -> str:
    """The whole log, or its last lines; empty if there is none."""
    reader = LogReader(path, tail_lines)
    try:
        text = b"".join(iter(reader.read, b""))
    finally:
        reader.close()
    if tail_lines is not None:  # more may have been written since the place was found
        text = b"".join(text.splitlines(keepends=True)[-tail_lines:]) if tail_lines > 0 else b""
    return text.decode("utf-8", "replace")


async def follow_log(
    path: Path, is_over: Callable[[], bool], tail_lines: int | None = None
) -> AsyncGenerator[str, None]:
    """The log from its start or its last lines, as it grows, until `is_over` says that nobody writes any more."""
    reader = await asyncio.to_thread(LogReader, path, tail_lines)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    was_over = False
    try:
        while True:
            data = await asyncio.to_thread(reader.read)
            if text := decoder.decode(data):
                yield text
            if data:
                continue
            if was_over:
                break
            was_over = is_over()  # read once more after that: the last lines may have just come
            if not was_over:
                await asyncio.sleep(LOOK_EVERY_S)
        if rest := decoder.decode(b"", final=True):
            yield rest
    finally:
        reader.close()


class LogReader:
    """A position in a log: a file number and an offset.

    It keeps that file open, also after rotation, because a process may still write to it.
    """

    def __init__(self, path: Path, tail_lines: int | None = None) -> None:
        self._path = path
        self._number = 0
        self._file: FileIO | None = None
        self._before: FileIO | None = None
        self._said = b""
        if tail_lines is not None:
            self._number, offset = _start_of(path, tail_lines)
            self._file = _open(path, self._number)
            if self._file is not None:
                self._file.seek(offset)

    def read(self) -> bytes:
        """The next block; empty if nothing was written since."""
        while True:
            for file in (self._before, self._file):
                if file is not None and (data := file.read(BLOCK_BYTES)):
                    return data
            if not self._advance():
                return b""
            if self._said:
                said, self._said = self._said, b""
                return said

    def close(self) -> None:
        for file in (self._before, self._file):
            if file is not None:
                file.close()

    def _advance(self) -> bool:
        """Move to the next file; False if this one is still written to, or there is no next one."""
        numbers = rotated_numbers(self._path)
        current = _next(numbers)
        if self._file is not None and self._number >= current and os.fstat(self._file.fileno()).st_nlink:
            return False
        number = next((one for one in numbers if one > self._number), current)
        file = _open(self._path, number)
        if file is None:
            return False
        if self._file is not None:
            if self._before is not None:
                self._before.close()
            self._before = self._file
            if number > self._number + 1:
                self._said = GAP % (number - self._number - 1)
        self._file, self._number = file, number
        return True


def _next(numbers: list[int]) -> int:
    """The number that the current file will get."""
    return numbers[-1] + 1 if numbers else 1


def _open(path: Path, number: int) -> FileIO | None:
    """Open a log's file by number, also during its rotation; None if it does not exist."""
    while True:
        try:
            return FileIO(rotated_path(path, number))
        except FileNotFoundError:
            if number != _next(rotated_numbers(path)):
                if number in rotated_numbers(path):
                    continue  # it was rotated just now
                return None
        try:
            file = FileIO(path)
        except FileNotFoundError:
            file = None
        if number not in rotated_numbers(path):  # so it was still the current file when it was opened
            return file
        if file is not None:
            file.close()


def _start_of(path: Path, lines: int) -> tuple[int, int]:
    """The start of the last lines: a file number and an offset."""
    numbers = rotated_numbers(path)
    left, is_end = lines, True
    for number in (_next(numbers), *reversed(numbers)):
        file = _open(path, number)
        if file is None:
            continue
        with file:
            at = file.seek(0, os.SEEK_END)
            if left <= 0:
                return number, at
            while at > 0:
                size = min(BLOCK_BYTES, at)
                at = file.seek(at - size)
                data = file.read(size)
                end = len(data) - (is_end and data.endswith(b"\n"))  # the newline at the end starts no further line
                is_end = False
                while (end := data.rfind(b"\n", 0, end)) >= 0:
                    left -= 1
                    if left == 0:
                        return number, at + end + 1
    return (numbers or [_next(numbers)])[0], 0
