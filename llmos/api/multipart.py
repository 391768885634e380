"""multipart/form-data (RFC 7578), read as it comes: parts of any size, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from llmos.abi.error import BadInput

MOST_HEADER_BYTES = 8 * 1024  # of one part
MOST_PARTS = 64
BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,200})"|([^\s;,"]{1,200}))', re.IGNORECASE)
DISPOSITION = re.compile(r';\s*(name|filename)="((?:[^"\\]|\\.)*)"|;\s*(name|filename)=([^\s;"]+)', re.IGNORECASE)
ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n", "%0d": "\r", "%0a": "\n"}  # WHATWG, of names in forms


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part begins: the name of its field, and of its file if it is one."""

    name: str
    file_name: str | None


@dataclass(frozen=True, slots=True)
class PartData:
    """The next bytes of the part that has begun."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is whole."""


Event = PartBegin | PartData | PartEnd


class _Place(Enum):
    """What comes next."""

    PREAMBLE = auto()
    AFTER_BOUNDARY = auto()
    HEADERS = auto()
    DATA = auto()
    EPILOGUE = auto()


class MultipartParser:
    """Takes the body in any pieces and gives what is in it; BadInput for what is no form."""

    def __init__(self, content_type: str) -> None:
        """`content_type` is the header of the request, which names the boundary."""
        found = BOUNDARY.search(content_type)
        if not content_type.lower().startswith("multipart/form-data") or found is None:
            said = f"Content-Type is {content_type[:80]!r}; a file comes as multipart/form-data with a boundary"
            raise BadInput(said, key="content-type")
        self._delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
        self._buffer = bytearray(b"\r\n")  # the first boundary may stand at the very beginning
        self._place = _Place.PREAMBLE
        self._count = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """What these bytes complete."""
        self._buffer += data
        while True:
            before = (self._place, len(self._buffer))
            yield from self._next()
            if before == (self._place, len(self._buffer)):
                return

    def finish(self) -> None:
        """The body has ended; BadInput if the form has not."""
        if self._place is not _Place.EPILOGUE:
            raise BadInput("The form breaks off before its last boundary. Send it again", key="body")

    def _next(self) -> Iterator[Event]:
        """What the buffer begins with, as far as it is there."""
        match self._place:
            case _Place.PREAMBLE:
                self._take_data()
                if self._is_at_delimiter():
                    self._pass_delimiter()
            case _Place.AFTER_BOUNDARY:
                self._pass_line_end()
            case _Place.HEADERS:
                yield from self._headers()
            case _Place.DATA:
                if data := self._take_data():
                    yield PartData(data)
                if self._is_at_delimiter():
                    self._pass_delimiter()
                    yield PartEnd()
            case _Place.EPILOGUE:
                self._buffer.clear()

    def _take_data(self) -> bytes:
        """What stands before the delimiter, or cannot be its beginning."""
        at = self._buffer.find(self._delimiter)
        if at < 0:
            at = max(0, len(self._buffer) - len(self._delimiter) + 1)
        data = bytes(self._buffer[:at])
        del self._buffer[:at]
        return data

    def _is_at_delimiter(self) -> bool:
        return self._buffer.startswith(self._delimiter)

    def _pass_delimiter(self) -> None:
        del self._buffer[: len(self._delimiter)]
        self._place = _Place.AFTER_BOUNDARY

    def _pass_line_end(self) -> None:
        """Behind a boundary: two hyphens at the end of the form, else spaces and the end of the line."""
        if self._buffer.startswith(b"--"):
            self._place = _Place.EPILOGUE
            return
        at = self._buffer.find(b"\r\n")
        if self._buffer[: max(at, 0)].strip(b" \t") or (at < 0 and len(self._buffer) > MOST_HEADER_BYTES):
            raise BadInput("There is more behind a boundary of the form than the end of its line", key="body")
        if at >= 0:
            del self._buffer[:at]  # the line's end stays: headers may be none at all
            self._place = _Place.HEADERS

    def _headers(self) -> Iterator[Event]:
        at = self._buffer.find(b"\r\n\r\n")
        if (len(self._buffer) if at < 0 else at) > MOST_HEADER_BYTES:
            raise BadInput(f"A part of the form has over {MOST_HEADER_BYTES:,} bytes of headers", key="body")
        if at < 0:
            return
        lines = self._buffer[:at].decode("utf-8", "replace").split("\r\n")
        del self._buffer[: at + 4]
        self._count += 1
        if self._count > MOST_PARTS:
            raise BadInput(f"The form has over {MOST_PARTS} parts", key="body", limit=MOST_PARTS)
        self._place = _Place.DATA
        yield _begin(lines)


def _begin(lines: list[str]) -> PartBegin:
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() != "content-disposition":
            continue
        found = {(m[1] or m[3]).lower(): _unescape(m[2] if m[1] else m[4]) for m in DISPOSITION.finditer(value)}
        if "name" in found:
            return PartBegin(found["name"], found.get("filename"))
    raise BadInput("A part of the form has no name in its Content-Disposition", key="body")


def _unescape(text: str) -> str:
    text = re.sub(r'\\(["\\])', r"\1", text)
    return re.sub("|".join(ESCAPES), lambda found: ESCAPES[found[0]], text)
