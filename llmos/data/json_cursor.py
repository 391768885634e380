"""A place in a JSON text that is read piece by piece: lists and objects are walked, only one element is in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.data.byte_source import CHUNK_BYTES
from llmos.data.decoding import TextSource, half_pair, half_surrogate
from llmos.data.table import bad_row

MOST_CHARS = 64 * 1024 * 1024  # of one element
NEAR_END = 16  # characters; the longest word of JSON that may be cut, with room
SPACE = re.compile(r"[ \t\r\n]*")


class JsonCursor:
    """Walks one JSON text from its start to its end. BadRow, with the line, where it is no JSON."""

    def __init__(self, text: TextSource, way_out: str = "", size: int = CHUNK_BYTES) -> None:
        self.path: Path = text.path
        self.line = 1
        self._pieces = text.characters(size)
        self._way_out = way_out
        self._buffer = ""
        self._at = 0
        self._is_ended = False
        self._count = 0  # values so far
        self._odd: list[str] = []  # NaN and the like in the value at hand, which JSON does not have
        self._decoder = json.JSONDecoder(parse_constant=self._odd.append)

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            space = SPACE.match(self._buffer, self._at)
            assert space is not None  # it matches nothing, too
            self.line += space[0].count("\n")
            self._at = space.end()
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._read_more():
                return ""

    def take(self, sign: str) -> None:
        """Go on behind this sign; BadRow where another stands."""
        if self.peek() != sign:
            raise self.refusal(f"{self.peek()!r} stands where {sign!r} is expected")
        self._at += 1

    def value(self) -> Json:
        """The value that begins here, whole."""
        self.peek()
        while True:
            self._odd.clear()
            try:
                found, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if not self._is_cut(error) or not self._read_more(len(self._buffer) - self._at):
                    line = self.line + self._buffer.count("\n", self._at, error.pos)
                    raise self.refusal(f"not JSON ({error.msg})", line) from error
                continue
            except RecursionError as error:
                raise self.refusal("JSON that is nested too deeply") from error
            if end < len(self._buffer) or not self._read_more():
                break
        start, self._at, self._count = self._at, end, self._count + 1
        line, self.line = self.line, self.line + self._buffer.count("\n", start, end)
        if self._odd:
            raise bad_row(
                self.path, line, f"{self._odd[0]} is no value that JSON has", "Write null", self._odd[0], kind="json"
            )
        if "\\u" in self._buffer[start:end]:
            refuse_half_pairs(self.path, line, found)
        return found

    def elements(self) -> Iterator[tuple[int, Json] | BadRow]:
        """The elements of the list that begins here, each with its line; with its number, if the list is on one line.

        An element that has a value which JSON does not know is a bad row, and reading goes on behind it.
        """
        self.take("[")
        line = self.line
        is_spread = self.peek() == "]" or self.line > line
        number = 0
        while self.peek() not in ("]", ""):
            number += 1
            where = self.line if is_spread else number
            before = self._count
            try:
                found = self.value()
            except BadRow as error:
                yield error
                if self._count == before:  # it is not known where it ends
                    return
            else:
                yield where, found
            if self.peek() == ",":
                self.take(",")
            elif self.peek() != "]":
                yield self.refusal(f"{self.peek() or 'the end'!r} stands behind an element")
                return
        self.take("]")

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here; the caller takes each value before it goes on."""
        self.take("{")
        while self.peek() not in ("}", ""):
            key = self.value()
            self.take(":")
            yield str(key)
            if self.peek() == ",":
                self.take(",")
        self.take("}")

    def refusal(self, what: str, line: int | None = None) -> BadRow:
        at = max(0, self._at - 20)
        beginning = self._buffer[at : self._at + 60]
        return bad_row(self.path, line or self.line, what, self._way_out, beginning, kind="json")

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether the value may only be cut off where what was read ends."""
        return error.msg.startswith("Unterminated") or error.pos >= len(self._buffer) - NEAR_END

    def _read_more(self, chars: int = 1) -> bool:
        """So many more characters at least; False at the end of the text, or where an element is too long."""
        if self._is_ended or len(self._buffer) - self._at > MOST_CHARS:
            return False
        parts = [self._buffer[self._at :]]
        while chars > 0:
            piece = next(self._pieces, "")
            if not piece:
                self._is_ended = True
                break
            parts.append(piece)
            chars -= len(piece)
        if len(parts) == 1:
            return False
        self._buffer, self._at = "".join(parts), 0
        return True


def refuse_half_pairs(path: Path, line: int, value: Json) -> None:
    """BadRow where a text in this value has half of a surrogate pair."""
    if isinstance(value, str):
        if not value.isascii() and (half := half_surrogate(value)) is not None:
            raise half_pair(path, line, half)
        return
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        refuse_half_pairs(path, line, one)
    for key in value if isinstance(value, dict) else ():
        refuse_half_pairs(path, line, key)
