"""The chain of the audit log: each line has an HMAC-SHA256 over the line before it and itself; so has the head.

A line is the code in hexadecimal, a space, the entry as JSON. Whoever changes, removes or moves one has to know the
key. What is missing at the end is seen by the head, which is kept in a file of its own.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

import msgspec

from llmos.abi.audit import AuditEntry

START = ""  # the code before the first entry
CODE_SIGNS = 64
ENTRY = msgspec.json.Decoder(AuditEntry)


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where the log begins and ends: the first entry that is kept, the code before it; the last entry and its code."""

    first: int = 1
    first_previous: str = START
    last: int = 0
    last_code: str = START


HEAD = msgspec.json.Decoder(ChainHead)


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it stands there. `entry` is None for what cannot be read as one."""

    code: str
    body: bytes
    entry: AuditEntry | None


def code_of(key: bytes, previous: str, body: bytes) -> str:
    """The code of an entry behind the one with the code `previous`."""
    return hmac.digest(key, previous.encode() + b" " + body, "sha256").hex()


def write_line(key: bytes, previous: str, entry: AuditEntry) -> tuple[bytes, str]:
    """An entry's line, and its code."""
    body = msgspec.json.encode(entry)
    code = code_of(key, previous, body)
    return code.encode() + b" " + body + b"\n", code


def read_line(data: bytes) -> Line:
    """A line without its end."""
    code, _, body = data.partition(b" ")
    try:
        entry = ENTRY.decode(body) if len(code) == CODE_SIGNS else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        entry = None
    return Line(code.decode("ascii", "replace"), body, entry)


def follows(key: bytes, previous: str, line: Line) -> bool:
    """Whether a line was written with this key behind the one with this code."""
    return hmac.compare_digest(line.code.encode(), code_of(key, previous, line.body).encode())


def write_head(key: bytes, head: ChainHead) -> bytes:
    """The head, signed."""
    return write_body(key, msgspec.json.encode(head))


def write_body(key: bytes, body: bytes) -> bytes:
    return code_of(key, "head", body).encode() + b" " + body + b"\n"


def read_head(key: bytes, data: bytes) -> ChainHead | None:
    """The head; None if it was not written with this key."""
    code, _, body = data.removesuffix(b"\n").partition(b" ")
    if data != write_body(key, body) or not hmac.compare_digest(code, code_of(key, "head", body).encode()):
        return None
    return HEAD.decode(body)
