"""The lines of a batch's file: each a request with an id of its own, checked before any is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from llmos.abi.batch import LineFault
from llmos.abi.upload import real_path

MOST_LINES = 200_000
MOST_FAULTS = 100  # that are kept
MOST_ID = 512  # characters
PRIORITIES = (b'"batch"', b'"background"')  # that a line may ask for
Fields = dict[str, msgspec.Raw]


class BatchLine(msgspec.Struct):
    """One line as clients write it. Other fields are not read."""

    custom_id: str
    method: str
    url: str
    body: Fields


@dataclass(frozen=True, slots=True)
class LineRequest:
    """A request to ask: its number in the file, from 1, its id and the body for the route."""

    number: int
    custom_id: str
    body: bytes


LINE = msgspec.json.Decoder(BatchLine)


class BatchFile:
    """A file of requests to one route. `line_bytes` is the longest line that it may have."""

    def __init__(self, path: Path, endpoint: str, line_bytes: int) -> None:
        self._path = real_path(path)
        self._endpoint = endpoint
        self._line_bytes = line_bytes

    def faults(self) -> tuple[int, list[LineFault]]:
        """The number of lines, and what does not fit, at most MOST_FAULTS."""
        found: list[LineFault] = []
        seen: set[bytes] = set()
        count = 0
        for number, raw in self._lines():
            count += 1
            line = self._check(number, raw)
            if isinstance(line, LineFault):
                found.append(line)
            else:
                digest = hashlib.blake2b(line.custom_id.encode("utf-8", "surrogatepass"), digest_size=12).digest()
                if digest in seen:
                    said = f"custom_id {line.custom_id[:80]!r} stands in an earlier line too. Each line has its own"
                    found.append(LineFault("duplicate_custom_id", said, number, "custom_id"))
                seen.add(digest)
            if count > MOST_LINES:
                found.append(LineFault("too_many_lines", f"The file has over {MOST_LINES:,} lines. Cut it"))
            if len(found) >= MOST_FAULTS or count > MOST_LINES:
                return count, found[:MOST_FAULTS]
        if not count:
            found.append(LineFault("empty_file", "The file has no line"))
        return count, found

    def requests(self) -> Iterator[LineRequest]:
        """Every request, in the order of the file, which has no faults."""
        for number, raw in self._lines():
            line = self._check(number, raw)
            assert not isinstance(line, LineFault), line
            yield LineRequest(number, line.custom_id, request_body(line.body))

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Lines that are not blank, with their numbers. One that is too long comes cut."""
        with self._path.open("rb") as file:
            number = 0
            while raw := file.readline(self._line_bytes + 2):
                number += 1
                is_long = len(raw) > self._line_bytes + 1 or (len(raw) > self._line_bytes and not raw.endswith(b"\n"))
                if is_long:
                    _pass_line(file, raw)
                if is_long or raw.strip():
                    yield number, raw

    def _check(self, number: int, raw: bytes) -> BatchLine | LineFault:
        if len(raw.rstrip(b"\r\n")) > self._line_bytes:
            return LineFault("line_too_long", f"The line has over {self._line_bytes:,} bytes", number)
        try:
            line = LINE.decode(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw)
        except msgspec.ValidationError as error:
            return LineFault("invalid_line", f"The line does not fit: {str(error)[:200]}", number)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return LineFault("invalid_json_line", f"The line is not valid JSON: {str(error)[:200]}", number)
        if not 0 < len(line.custom_id) <= MOST_ID:
            return LineFault("invalid_custom_id", f"custom_id has 1 to {MOST_ID} characters", number, "custom_id")
        if line.method.upper() != "POST":
            return LineFault("invalid_method", f"method is {line.method[:20]!r}; it is POST", number, "method")
        if line.url != self._endpoint:
            said = f"url is {line.url[:80]!r}; all lines of this batch have {self._endpoint}"
            return LineFault("mismatched_url", said, number, "url")
        if bytes(line.body.get("stream", b"false")) not in (b"false", b"null"):
            return LineFault("stream_not_supported", "The answers of a batch are not streamed", number, "body.stream")
        return line


def request_body(body: Fields) -> bytes:
    """The body for the route: behind live calls, whatever it says."""
    priority = bytes(body.get("priority") or body.get("class") or b"")
    fields = {key: value for key, value in body.items() if key not in ("class", "stream", "stream_options")}
    fields["priority"] = msgspec.Raw(priority if priority in PRIORITIES else PRIORITIES[0])
    return msgspec.json.encode(fields)


def _pass_line(file: BinaryIO, raw: bytes) -> None:
    """Read on to the end of a line whose beginning was read."""
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(1 << 20)
