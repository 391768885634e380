"""An endpoint: one method on one path, what it takes and gives, and the door where its errors become answers."""

from __future__ import annotations

import logging
import re
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llmos.abi.error import BadInput, Internal, LlmosError, TooLong
from llmos.abi.process import Class, Program
from llmos.api.budget import Share
from llmos.api.compression import LEAST_BYTES, compressed
from llmos.api.errors import refusal

log = logging.getLogger(__name__)
T = TypeVar("T")
HALF_PAIR = re.compile(  # it begins with a plain text, which is found in a large body many times faster
    rb"\\u(?:[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2})"
)
CHOICES = {"$.class": Class, "$.program": Program}  # of our bodies: the fields that are one of a few words
PLACE = re.compile(r" - at `\$(.*?)`$")  # how msgspec says where in a body something is wrong
FIELD = re.compile(r"^Object (?:contains unknown|missing required) field `([^`]*)`")  # of the object there
AS_ONES = bytes(ord("1") if chr(byte).isdecimal() else 0 for byte in range(256))  # what each byte becomes
LONG_NUMBER = b"1" * 19
LOOK_BYTES = 1 << 16
CODINGS = {"identity": 0, "gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
MAX_COUNT = 999_999_999
COUNT = re.compile(r"0*([1-9][0-9]{0,8})")  # from 1 to MAX_COUNT
FLAGS = {"true": True, "1": True, "false": False, "0": False}
DRAIN_FACTOR = 8  # how much of an oversized body is read and dropped, so that its sender reads the answer, not a reset


class Answer(Protocol):
    """What a handler gives back: something that sends itself with these headers, whole or as a stream."""

    raw_headers: list[tuple[bytes, bytes]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


@dataclass(frozen=True, slots=True)
class Query:
    """One query parameter: a whole number from 1 (`integer`) or true or false (`boolean`); it may come once."""

    name: str
    doc: str
    kind: str

    @property
    def schema(self) -> dict[str, str | int]:
        """What it may be, as JSON Schema."""
        return {"type": self.kind, **({"minimum": 1, "maximum": MAX_COUNT} if self.kind == "integer" else {})}

    def read(self, given: Sequence[str]) -> int | bool:
        """Its value, of all that were given under its name; BadInput unless that is one, of its kind."""
        if len(given) != 1:
            raise BadInput(f"{self.name} comes {len(given)} times. Send it once", key=self.name)
        if self.kind == "boolean":
            if given[0].lower() in FLAGS:
                return FLAGS[given[0].lower()]
            raise BadInput(f"{self.name}={given[0][:40]!r}: expected true or false", key=self.name)
        if count := COUNT.fullmatch(given[0]):
            return int(count[1])
        said = f"expected a whole number from 1 to {MAX_COUNT:,}"
        raise BadInput(f"{self.name}={given[0][:40]!r}: {said}", key=self.name)


@dataclass(frozen=True, slots=True)
class Media:
    """A media type that a route answers in. `gives` is the type of its body, of server-sent events that of their data.

    `ended`: behind the last event comes one more, whose data is `[DONE]`.
    """

    name: str
    gives: Any = None  # Any: a type expression that msgspec can describe
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method on one path. `takes` and `gives` are the types of its bodies; `media` is what it answers in.

    `also` are the other media types it answers in, where the request asks for one.
    """

    method: str
    path: str
    handle: Callable[[Request], Awaitable[Answer]]
    doc: str
    takes: Any = None  # Any: a type expression that msgspec can describe
    gives: Any = None  # Any: as takes
    query: tuple[Query, ...] = ()
    media: str = "application/json"
    also: tuple[Media, ...] = ()

    @property
    def answers(self) -> tuple[Media, ...]:
        """Every media type it answers in."""
        return (Media(self.media, self.gives), *self.also)

    @property
    def noun(self) -> str:
        parts = self.path.strip("/").split("/")
        return parts[1] if parts[0] == "v1" else "health"


class Door:
    """Runs one endpoint's handler for a request; every error leaves as a refusal, never as a closed connection."""

    def __init__(self, endpoint: Endpoint, refused: Counter[str]) -> None:
        self._handle = endpoint.handle
        self._query = endpoint.query
        self._refused = refused  # how many, by code

    async def answer(self, request: Request) -> Answer | None:
        """What the handler answers, or the refusal; None where the client left before its body was there."""
        scope = request.scope
        try:
            if self._query:
                scope["asked"] = _asked(self._query, request)
            answer = await self._handle(request)
            if isinstance(answer, Response) and len(answer.body) >= LEAST_BYTES:
                answer = await compressed(answer, scope)
        except LlmosError as error:
            self._refused[error.code] += 1
            return refusal(error)
        except ClientDisconnect:
            log.debug("%s %s: the client left before its body was there", scope["method"], scope["path"])
            return None
        except Exception as error:  # the top of a request: logged here, and the client is told
            log.exception("%s %s failed", scope["method"], scope["path"])
            self._refused[Internal.code] += 1
            return refusal(error)
        return answer


class Bodies:
    """Reads request bodies: within the limit and the request's `share` of the budget, as JSON, as the type wanted."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes

    async def read(self, request: Request, decoder: msgspec.json.Decoder[T]) -> T:
        """The body as the decoder's type; an empty body counts as an empty object."""
        return decoded(await self._bytes(request) or b"{}", decoder)

    async def _bytes(self, request: Request) -> bytes:
        """What was sent, inflated where it is in gzip: neither may have more bytes than the limit."""
        coding = header_of(request.scope, b"content-encoding") or "identity"
        coding = coding.strip().lower()
        if coding not in CODINGS:
            said = f"Content-Encoding is {coding[:40]!r}; bodies are read plain, or in gzip or deflate"
            raise BadInput(said, key="content-encoding")
        sent = await self._sent(request)
        if coding == "identity" or not sent:
            return sent
        body = inflated(sent, self._limit, wbits=CODINGS[coding])
        request.scope["share"].take(len(body))
        return body

    async def _sent(self, request: Request) -> bytes:
        share: Share = request.scope["share"]
        pieces: list[bytes] = []
        size, is_last = 0, False
        while not is_last and size <= self._limit * DRAIN_FACTOR:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            is_last = not message.get("more_body", False)
            size += len(piece)
            if size <= self._limit:
                share.take(len(piece))
                pieces.append(piece)
        if size <= self._limit:
            return b"".join(pieces) if len(pieces) != 1 else pieces[0]
        raise _too_large(size, self._limit)


def header_of(scope: Scope, name: bytes) -> str | None:
    """The first header of this name (lower case) in a request, None where there is none."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def inflated(sent: bytes, limit: int, *, wbits: int) -> bytes:
    """The body that was compressed; TooLong once it is over the limit, without inflating the rest of it."""
    stream = zlib.decompressobj(wbits)
    try:
        body = stream.decompress(sent, limit + 1)
    except zlib.error as error:
        raise BadInput(f"The body is not what its Content-Encoding says: {error}", key="content-encoding") from error
    if len(body) > limit:
        raise _too_large(len(body), limit)
    if not stream.eof or stream.unused_data:
        said = "ends too early" if not stream.eof else "goes on behind its end"
        raise BadInput(f"The compressed body {said}. Send it whole, in one stream", key="content-encoding")
    return body


def _too_large(size: int, limit: int) -> TooLong:
    return TooLong(
        f"The body has more than {limit:,} bytes. Send fewer inputs at a time, or raise max_body_bytes",
        size=size,
        limit=limit,
    )


def decoded(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as the decoder's type; BadInput that says whether the encoding, the JSON or the content is wrong."""
    try:
        if has_long_number(body):
            _check_integers(msgspec.json.decode(body))
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise unfit(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(body, error) from error
    except RecursionError as error:
        raise BadInput("The body is nested too deeply") from error


def has_long_number(body: bytes) -> bool:
    """It has so many digits in a row that they may be more than 64 bits: rare, and only then is each number looked at.

    Ten times as fast as a regular expression, for nobody else is answered meanwhile.
    """
    ends = range(0, len(body), LOOK_BYTES)
    return any(LONG_NUMBER in body[at : at + LOOK_BYTES + len(LONG_NUMBER) - 1].translate(AS_ONES) for at in ends)


def unfit(error: msgspec.ValidationError) -> BadInput:
    """What is wrong with a body that is JSON, and the name of its field as `key`."""
    said = str(error)
    for place, words in CHOICES.items():
        if said.endswith(f"`{place}`"):
            said = f"{said.replace(f' - at `{place}`', '')}; {place.removeprefix('$.')} is one of {', '.join(words)}"
    name = _name_of(str(error))
    detail = {} if name is None else {"key": name}
    return BadInput(f"The body does not fit: {said}. What is expected is at /docs", **detail)


def _name_of(said: str) -> str | None:
    """The field that the decoder speaks of, by its path: `max_tokens`, `stream_options.include_usage`, `input[2]`."""
    place, field = PLACE.search(said), FIELD.search(said)
    path = "" if place is None else place[1].removeprefix(".")
    if field is not None:
        path += f".{field[1]}" if path else field[1]
    return path or None


def _unreadable(body: bytes, error: Exception) -> BadInput:
    """What is wrong with a body that is no JSON, and at which of its bytes where that can be told."""
    try:
        body.decode()
    except UnicodeDecodeError as first:  # the decoder's own place is that within one text
        return BadInput(f"The body is not valid UTF-8: {first.reason} at byte {first.start}")
    if half := HALF_PAIR.search(body):
        return BadInput(
            f"The body is not valid JSON: {half[0].decode()} at byte {half.start()} is half of a surrogate pair, which "
            "is no character. Send both halves, or the character itself"
        )
    return BadInput(f"The body is not valid JSON: {error}")


def _check_integers(value: Any) -> None:  # Any: a JSON value
    """BadInput for a whole number that no frame can carry to a process."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            _check_integers(one)
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise BadInput(f"{str(value)[:24]}... is too large. Whole numbers have at most 64 bits")


def reply(value: object, status: int = 200) -> Response:
    """A value as a JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def asked_of(request: Request) -> Mapping[str, int | bool]:
    """The values of those query parameters of the route that were given."""
    asked: dict[str, int | bool] = request.scope["asked"]
    return asked


def _asked(query: Sequence[Query], request: Request) -> dict[str, int | bool]:
    """Each that was given, read; what is no parameter of the route is let through."""
    given = request.query_params
    return {one.name: one.read(given.getlist(one.name)) for one in query if one.name in given}
