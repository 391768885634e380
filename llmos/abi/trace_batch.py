"""Traces of calls as the daemon measured them, and batches of them on the pipe to the process that sends them.

A message is 4 bytes of length, big-endian, then msgpack: a batch there, and back why it was not taken, empty if it was.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import IO

import msgspec

from llmos.abi.call import CallTimes, Tokens
from llmos.abi.call_trace import TraceContext

# id, at, model, task, outcome, seconds, seconds of streaming, the stages, the client's context, tokens
TraceEntry = tuple[str, float, str, str, str, float, float, CallTimes | None, TraceContext | None, Tokens]
LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_batches = msgspec.msgpack.Decoder(list[TraceEntry])
_reasons = msgspec.msgpack.Decoder(str)


def write_batch(pipe: IO[bytes], entries: Sequence[TraceEntry]) -> None:
    _write(pipe, _encoder.encode(entries))


def read_batch(pipe: IO[bytes]) -> list[TraceEntry] | None:
    """The next batch; None at the end of the pipe."""
    body = _read(pipe)
    return None if body is None else _batches.decode(body)


def write_reason(pipe: IO[bytes], reason: str) -> None:
    _write(pipe, _encoder.encode(reason))


def read_reason(pipe: IO[bytes]) -> str | None:
    """Why the last batch was not taken, empty if it was; None at the end of the pipe."""
    body = _read(pipe)
    return None if body is None else _reasons.decode(body)


def _write(pipe: IO[bytes], body: bytes) -> None:
    pipe.write(LENGTH.pack(len(body)) + body)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = pipe.read(length)
    return body if len(body) == length else None
