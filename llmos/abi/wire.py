"""The wire encoding: frames as length-prefixed msgpack on a socket, and any of our dataclasses as JSON.

A frame is 4 bytes of length, big-endian, then msgpack of the pair (name of the dataclass, its fields).
"""

from __future__ import annotations

import re
import struct
from typing import Any, TypeVar, get_args

import msgspec

from llmos.abi.error import BadInput, TooLong
from llmos.abi.frame import FromChild, ToChild

PREFIX = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 1024 * 1024

_FRAMES: dict[str, type] = {kind.__name__: kind for kind in (*get_args(ToChild), *get_args(FromChild))}
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {  # Any: one decoder per frame type, chosen by name
    name: msgspec.msgpack.Decoder(kind) for name, kind in _FRAMES.items()
}
_envelope = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])

T = TypeVar("T")


def encode(frame: ToChild | FromChild) -> bytes:
    """The frame's bytes with their prefix; TooLong beyond MAX_FRAME_BYTES, BadInput if it cannot be encoded."""
    try:
        body = _encoder.encode((type(frame).__name__, frame))
    # a lone surrogate, an integer above 64 bits, or too deep nesting
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadInput(f"A value in this {type(frame).__name__} cannot be sent to a process: {error}") from error
    if len(body) > MAX_FRAME_BYTES:
        raise TooLong(
            f"A message of {len(body):,} bytes is over the limit of {MAX_FRAME_BYTES:,}. Send fewer inputs in one call",
            size=len(body),
            limit=MAX_FRAME_BYTES,
            unit="bytes",
        )
    return PREFIX.pack(len(body)) + body


def decode(body: bytes | bytearray | memoryview) -> ToChild | FromChild:
    """The frame in a body without its prefix; BadInput if it is not a frame of ours."""
    try:
        name, raw = _envelope.decode(body)
        return _decoders[name].decode(raw)  # type: ignore[no-any-return]  # the decoder was made for this frame type
    except (msgspec.DecodeError, KeyError) as error:
        raise BadInput(f"Not a frame of this version: {error}") from error


class Splitter:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[ToChild | FromChild]:
        """The frames completed by these bytes, in order."""
        self._held += data
        frames: list[ToChild | FromChild] = []
        start = 0
        while len(self._held) - start >= PREFIX.size:
            (size,) = PREFIX.unpack_from(self._held, start)
            if size > MAX_FRAME_BYTES:
                raise BadInput(
                    f"A frame says it has {size:,} bytes; the limit is {MAX_FRAME_BYTES:,}",
                    size=size,
                    limit=MAX_FRAME_BYTES,
                )
            end = start + PREFIX.size + size
            if len(self._held) < end:
                break
            frames.append(decode(bytes(self._held[start + PREFIX.size : end])))
            start = end
        del self._held[:start]
        return frames


def to_json(value: Any) -> bytes:  # Any: every dataclass of abi, and plain JSON values
    """One of our dataclasses, or plain data, as JSON; BadInput for a lone surrogate, which UTF-8 cannot encode."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise BadInput(
            f"A text is no valid Unicode at its character {error.start}, so that UTF-8 cannot say it",
            reason="surrogate",
            at_character=error.start,
        ) from error


def from_json(data: bytes | str, kind: type[T]) -> T:
    """The dataclass in this JSON; BadInput that names the field if it is malformed."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise BadInput(f"Not a valid {kind.__name__}: {error}", **_named_field(str(error))) from error


def to_plain(value: Any) -> Any:  # Any: as to_json
    """One of our dataclasses as dicts, lists and scalars."""
    return msgspec.to_builtins(value)


def from_plain(data: Any, kind: type[T]) -> T:  # Any: as to_json
    """The dataclass in these dicts and lists; BadInput that names the field if it is malformed."""
    try:
        return msgspec.convert(data, type=kind)
    except msgspec.ValidationError as error:
        said = _sentence(str(error), data) or f"Not a valid {kind.__name__}: {error}"
        raise BadInput(said, **_named_field(str(error))) from error


PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")
LACKED = re.compile(r"(?:missing required|contains unknown) field `(?P<name>[^`]+)`")
MISFIT = re.compile(r"Expected `(?P<wanted>[a-z| ]+)`, got `[a-z]+` - at `\$\.(?P<path>[\w.]+)`")
WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


def _named_field(said: str) -> dict[str, str]:
    """The field that msgspec names, as a detail; none where it is the whole that does not fit."""
    place, lacked = PLACE.search(said), LACKED.search(said)
    path = [place["place"]] if place and place["place"] else []
    path += [lacked["name"]] if lacked else []
    return {"field": ".".join(path)} if path else {}


def _sentence(said: str, data: Any) -> str | None:  # Any: as to_json
    """msgspec's message about a field in plain words, with the field's value; None for other messages."""
    found = MISFIT.fullmatch(said)
    if found is None:
        return None
    for name in found["path"].split("."):
        data = data.get(name) if isinstance(data, dict) else None
    wanted = [WORDS.get(word, word) for word in found["wanted"].split(" | ") if word != "null"]
    return f"{found['path']} is {str(data)[:60]!r}; it must be {' or '.join(wanted)}"
