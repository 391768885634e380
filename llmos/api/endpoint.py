"""An endpoint: one method on one path, its body types and their budget, and the error boundary around its handler."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llmos.abi.error import BadInput, Busy, Internal, LlmosError
from llmos.abi.heap import give_back
from llmos.abi.key import KeyScope
from llmos.abi.process import Priority
from llmos.api.compression import CODINGS, LEAST_BYTES, compress_answer, decompress_body, too_large
from llmos.api.errors import OURS, ErrorShape, refusal
from llmos.api.query import Query, read_query
from llmos.api.weight import check_weight

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
HALF_PAIR = re.compile(  # the plain text at its start is found many times faster in a large body
    rb"\\u(?:[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2})"
)
CHOICES = {
    "$.priority": Priority,
    "$.class": Priority,
}  # our bodies' fields with a fixed set of values
PLACE = " - at `$"  # msgspec's words before the path of an error, at the end of its message
# a field of the object at that path
FIELD = re.compile(r"^Object (?:contains unknown|missing required) field `([^`]*)`")
AS_ONES = bytes(ord("1") if chr(byte).isdecimal() else 0 for byte in range(256))  # for each byte: 1 if it is a digit
LONG_NUMBER = b"1" * 19
LOOK_BYTES = 1 << 16
PAIR_BYTES = 12  # of an escaped surrogate pair
AT_BYTE = re.compile(r"\(byte (\d+)\)$")  # the place in msgspec's message
MAX_SAID = 300  # the most characters of msgspec's message, which may quote the body
MAX_KEY = 100
AT_ONCE_BYTES = 16_384  # larger bodies are decoded in a thread
READERS = 2  # threads: their Python parts compete with the event loop
# how much of an oversized body is read and dropped, so that its sender reads the refusal and not a reset
DRAIN_FACTOR = 8


class Reply(Protocol):
    """A handler's result: something that sends itself with these headers, whole or as a stream."""

    raw_headers: list[tuple[bytes, bytes]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


@dataclass(frozen=True, slots=True)
class Media:
    """A media type of a route's response. `gives` is the type of its body or, for server-sent events, of their data.

    `ended`: one more event with the data `[DONE]` follows the last.
    """

    name: str
    gives: Any = None  # Any: a type expression that msgspec can describe
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method on one path. `takes` and `gives` are its body types; `media` is the response's media type.

    `also` are further media types, used if the request accepts one. `headers` are those of its refusals. `status` is
    that of its answer, for the document. A caller's key needs the `scope`, or one of `also_for`; with None, anyone may
    call, and no key is asked for. `tag` groups it in the document; without one, its path does. `errors` is the shape
    of its refusals. Without `changes` it changes nothing that the audit log is for, whatever its method.
    """

    method: str
    path: str
    handle: Callable[[Request], Awaitable[Reply]]
    doc: str
    takes: Any = None  # Any: a type expression that msgspec can describe
    gives: Any = None  # Any: as takes
    query: tuple[Query, ...] = ()
    media: str = "application/json"
    also: tuple[Media, ...] = ()
    headers: Mapping[str, str] | None = None
    status: int = 200
    scope: KeyScope | None = field(kw_only=True)
    also_for: tuple[KeyScope, ...] = ()

    tag: str = ""
    errors: ErrorShape = OURS
    changes: bool = True

    @property
    def scopes(self) -> tuple[KeyScope, ...]:
        """The scopes of which a key needs one; empty if anyone may."""
        return () if self.scope is None else tuple(dict.fromkeys((self.scope, *self.also_for)))

    @property
    def is_audited(self) -> bool:
        """Whether the audit log has an entry of each request: it changes state, and is neither call nor feedback."""
        is_work = any(scope not in (KeyScope.INFER, KeyScope.FEEDBACK) for scope in self.scopes)
        return self.changes and is_work and self.method not in ("GET", "HEAD")

    @property
    def answers(self) -> tuple[Media, ...]:
        """Every media type of its responses."""
        return (Media(self.media, self.gives), *self.also)

    @property
    def noun(self) -> str:
        parts = self.path.strip("/").split("/")
        if self.tag:
            return self.tag
        return parts[1] if parts[0] == "v1" else "health"


class ErrorBoundary:
    """Runs one endpoint's handler; every error becomes a refusal, never a closed connection."""

    def __init__(self, endpoint: Endpoint, refused: Counter[str]) -> None:
        self.scopes = endpoint.scopes
        self.audited = (endpoint.method, endpoint.path) if endpoint.is_audited else None
        self._handle = endpoint.handle
        self._query = endpoint.query
        self._headers = endpoint.headers
        self.shape = endpoint.errors
        self._refused = refused  # refusals by code

    async def answer(self, request: Request) -> Reply | None:
        """The handler's response, or a refusal; None if the client left before its body was complete."""
        scope = request.scope
        try:
            if self._query:
                scope["asked"] = read_query(self._query, request)
            answer = await self._handle(request)
            if isinstance(answer, Response) and len(answer.body) >= LEAST_BYTES:
                answer = await compress_answer(answer, scope)
        except LlmosError as error:
            self._refused[error.code] += 1
            scope["outcome"] = error.code
            visit = scope.get("visit")
            told = error if visit is None else visit.without_others(error)
            return refusal(told, headers=self._headers, shape=self.shape)
        except ClientDisconnect:
            log.debug("%s %s: the client left before its body was there", scope["method"], scope["path"])
            return None
        except Exception as error:  # the top of a request: logged here, and reported to the client
            log.exception("%s %s failed", scope["method"], scope["path"])
            self._refused[Internal.code] += 1
            scope["outcome"] = Internal.code
            return refusal(error, shape=self.shape)
        return answer


class Bodies:
    """Reads request bodies: within the size limit and the request's share of the budget, decoded as JSON to a type."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._beside = ThreadPoolExecutor(READERS, "bodies")

    async def read(self, request: Request, decoder: msgspec.json.Decoder[T], unnamed: Sequence[str] = ()) -> T:
        """Read the body as the decoder's type; an empty body counts as an empty object.

        `unnamed` are values of an object's `model` that name none: without it, the key's own model is meant.
        """
        return await self.read_as(request, decoder, lambda value: value, unnamed)

    async def read_as(
        self,
        request: Request,
        decoder: msgspec.json.Decoder[T],
        meaning: Callable[[T], R],
        unnamed: Sequence[str] = (),
    ) -> R:
        """Read the body and pass it to `meaning`; a large body is handled in a thread."""
        body = await self._bytes(request) or b"{}"
        visit = request.scope.get("visit")

        def parse() -> R:
            value = decode_body(body, decoder)
            if unnamed and isinstance(value, dict) and value.get("model") in unnamed:
                del value["model"]
            if visit is not None:
                visit.check_body(value)
            return meaning(value)

        if len(body) <= AT_ONCE_BYTES:
            return parse()

        def work() -> R:
            check_weight(body)
            return parse()

        return await asyncio.get_running_loop().run_in_executor(self._beside, work)

    async def _bytes(self, request: Request) -> bytes:
        """The body's bytes, inflated if it is gzip. Neither form may exceed the limit."""
        coding = header_of(request.scope, b"content-encoding") or "identity"
        coding = coding.strip().lower()
        if coding not in CODINGS:
            said = f"Content-Encoding is {coding[:40]!r}; bodies are read plain, or in gzip or deflate"
            raise BadInput(said, key="content-encoding")
        sent = await self._read_body(request)
        if coding == "identity" or not sent:
            return sent
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(
            self._beside, lambda: decompress_body(sent, self._limit, wbits=CODINGS[coding])
        )
        request.scope["share"].take(len(body))
        return body

    async def _read_body(self, request: Request) -> bytes:
        share: BudgetShare = request.scope["share"]
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
        raise too_large(size, self._limit)


def header_of(scope: Scope, name: bytes) -> str | None:
    """The request's first header of this name (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def decode_body(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode the body; BadInput that says whether the encoding, the JSON or the content is wrong."""
    try:
        value = _decode_fields(body, decoder)
        if has_long_number(body):
            _check_integers(value)
        return value
    except msgspec.ValidationError as error:
        raise unfit(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(body, error) from error
    except RecursionError as error:
        raise BadInput("The body is nested too deeply") from error


def has_long_number(body: bytes) -> bool:
    """Whether enough digits follow each other for an integer above 64 bits.

    This is rare; only then is each number checked. It is ten times as fast as a regular expression, which would block
    the event loop.
    """
    ends = range(0, len(body), LOOK_BYTES)
    return any(LONG_NUMBER in body[at : at + LOOK_BYTES + len(LONG_NUMBER) - 1].translate(AS_ONES) for at in ends)


def _decode_fields(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode the body; fields that are null and do not allow null count as not given."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        if b"null" not in body:
            raise
        given = msgspec.json.decode(body)
        if not isinstance(given, dict) or None not in given.values():
            raise
        return msgspec.convert({key: value for key, value in given.items() if value is not None}, decoder.type)


def unfit(error: msgspec.ValidationError) -> BadInput:
    """The error for valid JSON of the wrong content, with the name of its field as `key`."""
    said = str(error)
    name = _name_of(said)
    for place, words in CHOICES.items():
        if said.endswith(f"`{place}`"):
            said = f"{said.replace(f' - at `{place}`', '')}; {place.removeprefix('$.')} is one of {', '.join(words)}"
    detail = {} if name is None else {"key": _cut(name, MAX_KEY)}
    return BadInput(f"The body does not fit: {_cut(said, MAX_SAID)}. What is expected is at /docs", **detail)


def _name_of(said: str) -> str | None:
    """The path of the field in the decoder's message: `max_tokens`, `stream_options.include_usage`, `input[2]`."""
    before, place, path = said.rpartition(PLACE)
    field = FIELD.search(before if place else said)
    path = path.removesuffix("`").removeprefix(".") if place else ""
    if field is not None:
        path += f".{field[1]}" if path else field[1]
    return path or None


def _cut(said: str, most: int) -> str:
    return said if len(said) <= most else f"{said[: most - 4]} ..."


def _unreadable(body: bytes, error: Exception) -> BadInput:
    """The error for a body that is not JSON, with the position of the fault if it is known."""
    try:
        body.decode()
    except UnicodeDecodeError as first:  # the decoder's position is relative to one text
        return BadInput(f"The body is not valid UTF-8: {first.reason} at byte {first.start}")
    met = AT_BYTE.search(str(error))
    at = int(met[1]) if met else len(body)  # it states no position if the text ends before the second half
    if half := HALF_PAIR.search(body, max(at - 2 * PAIR_BYTES, 0), at + PAIR_BYTES):
        return BadInput(
            f"The body is not valid JSON: {half[0].decode()} at byte {half.start()} is half of a surrogate pair, which "
            "is no character. Send both halves, or the character itself"
        )
    return BadInput(f"The body is not valid JSON: {_cut(str(error), MAX_SAID)}")


def _check_integers(value: object) -> None:
    """Raise BadInput for integers above 64 bits, which a frame to a process cannot carry."""
    try:
        msgspec.msgpack.encode(value)
    except OverflowError as error:
        found = _too_long(msgspec.to_builtins(value))
        raise BadInput(
            f"{str(found)[:24]}... is too large. Whole numbers have at most 64 bits", value=str(found)[:24]
        ) from error


def _too_long(value: Any) -> int | None:  # Any: a JSON value
    """The first integer above 64 bits, or None."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return next((found for one in value if (found := _too_long(one)) is not None), None)
    return value if isinstance(value, int) and not -(2**63) <= value < 2**64 else None


def reply(value: object, status: int = 200) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


RETRY_AFTER_S = 1
MUCH_BYTES = 1 << 20
SOON_S = 1.0  # once its answer has left and several large ones have come to their end


class BodyBudget:
    """Bytes that requests may hold. They are given back as the request ends, for what was read lives until then."""

    def __init__(self, limit_bytes: int, heap: Callable[[], None] = give_back, soon_s: float = SOON_S) -> None:
        """`heap` is called after large requests: what they held is free then, and the operating system's again."""
        self._limit_bytes = limit_bytes
        self._heap = heap
        self._soon_s = soon_s
        self._soon: asyncio.TimerHandle | None = None
        self.held_bytes = 0

    def share(self) -> BudgetShare:
        """One request's part of it, to be given back when the request ends."""
        return BudgetShare(self)

    def give_back(self, size_bytes: int) -> None:
        """A request has ended that held so many bytes."""
        self.held_bytes -= size_bytes
        if size_bytes >= MUCH_BYTES and self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(self._soon_s, self._give_back)

    def _give_back(self) -> None:
        self._soon = None
        asyncio.get_running_loop().run_in_executor(None, self._heap)

    def take(self, size_bytes: int) -> None:
        """Busy if there is no room for so many more."""
        if self.held_bytes + size_bytes > self._limit_bytes:
            raise Busy(
                f"The requests under way hold {self.held_bytes:,} bytes of {self._limit_bytes:,}. Try again, or raise "
                "max_held_bytes",
                limit=self._limit_bytes,
                retry_after_s=RETRY_AFTER_S,
                held_bytes=self.held_bytes,
            )
        self.held_bytes += size_bytes


class BudgetShare:
    """What one request holds: each piece of its body as it comes, and what is made of it where that is larger."""

    __slots__ = ("_budget", "_size_bytes")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What it holds now."""
        return self._size_bytes

    def take(self, size_bytes: int) -> None:
        """Hold so many bytes more; Busy if all requests together would hold too many."""
        self._budget.take(size_bytes)
        self._size_bytes += size_bytes

    def give_back(self) -> None:
        """All that it holds."""
        size_bytes, self._size_bytes = self._size_bytes, 0
        self._budget.give_back(size_bytes)
