"""Makes calls to the kernel for all routes: common fields, streaming, client disconnects, metrics."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Annotated

import msgspec
from starlette.requests import Request

from llmos.abi.call import CallRequest, Chunk, Tokens
from llmos.abi.error import (
    BadInput,
    Cancelled,
    ContextLengthExceeded,
    Internal,
    TooLong,
    error_of,
    fault_of,
)
from llmos.abi.json_type import Json
from llmos.abi.process import Priority
from llmos.api.metrics import Meter
from llmos.api.stream import Attended
from llmos.kernel.interface import KernelInterface

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class CallFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What the body of every call may say: the `model`; `timeout_s`, within which the answer is there; its `priority`
    (earlier name: `class`), which says who goes first where calls must wait; and the `engine` that answers."""

    model: str
    timeout_s: Seconds | None = None
    priority: Priority | None = None
    earlier_priority: Priority | None = msgspec.field(name="class", default=None)
    engine: str | None = None

    @property
    def runs_as(self) -> Priority:
        """The priority asked for, by either name."""
        return one_priority(self.priority, self.earlier_priority) or Priority.INTERACTIVE


def one_priority(priority: Priority | None, earlier: Priority | None) -> Priority | None:
    """What a body says by `priority` or by its earlier name `class`; BadInput if both are said and differ."""
    if priority is not None and earlier is not None and priority is not earlier:
        raise BadInput(
            f"priority is {priority} and class is {earlier}; class is its earlier name. Send only priority",
            key="priority",
        )
    return priority or earlier


@dataclass(frozen=True, slots=True)
class Field:
    """The field of a body that holds the inputs, for refusals to name; `is_openai`: of a route of OpenAI's."""

    name: str
    is_list: bool = False
    is_openai: bool = False

    def path(self, index: int, at: str = "") -> str:
        """The input of this number, or the part `at` of it."""
        if at.startswith(self.name):  # a chat's messages are its one input
            return at
        whole = f"{self.name}[{index}]" if self.is_list else self.name
        return f"{whole}.{at}" if at else whole


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks of a model, by the full ref that the name it said meant when it asked."""

    call: CallRequest
    task: str
    field: Field

    @property
    def model(self) -> str:
        return self.call.model


class CallApi:
    """Makes calls for the routes."""

    def __init__(self, kernel: KernelInterface, meter: Meter) -> None:
        self._calls = kernel.calls
        self._meter = meter

    def task_of(self, model: str) -> str:
        """The task of the version that a call to this name or ref goes to now."""
        return self._calls.task_of(model)

    def call_for(
        self, said: CallFields, task: str, inputs: list[Json], params: dict[str, Json], field: Field
    ) -> Wanted:
        """The call that a body means: of the version that its name means now, which the answer says answered."""
        ref, priority = self._calls.ref(said.model), said.runs_as
        call = CallRequest(ref, tuple(inputs), params, task, said.timeout_s, priority, said.engine)
        return Wanted(call, task, field)

    async def whole(self, wanted: Wanted, request: Request) -> Chunk:
        """The answer in one piece; Cancelled if the client left before it was there."""
        try:
            with Attended(request.scope, request.receive), Counted(self._meter, wanted) as counted:
                return counted.count_piece(await self._calls.answer(wanted.call))
        except BadInput as error:
            raise name_input(error, wanted.field) from error
        raise _client_left()

    async def stream_chunks(self, wanted: Wanted, request: Request) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces. The first is waited for here, so that a refusal still has a status of its own."""
        chunks = self._pieces(wanted)
        with Attended(request.scope, request.receive):
            async for first in chunks:
                return _led_by(first, chunks)
            raise Internal(f"The call to {wanted.model} ended without an answer")
        await chunks.aclose()
        raise _client_left()

    async def _pieces(self, wanted: Wanted) -> AsyncGenerator[Chunk, None]:
        chunks = self._calls.stream(wanted.call)
        try:
            with Counted(self._meter, wanted, is_streamed=True) as counted:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        yield counted.count_piece(chunk)
        except BadInput as error:
            raise name_input(error, wanted.field) from error


class Counted:
    """One call, counted when the block ends: ok once its last piece was told, else by its error's code."""

    def __init__(self, meter: Meter, wanted: Wanted, *, is_streamed: bool = False) -> None:
        self._meter = meter
        self._wanted = wanted
        self._is_streamed = is_streamed
        self._outcome = "cancelled"
        self._first_at: float | None = None
        self._tokens = Tokens()

    def count_piece(self, chunk: Chunk) -> Chunk:
        """A piece is about to be handed on; whoever takes it may never come back. A fault is raised instead."""
        if chunk.fault is not None:
            raise error_of(chunk.fault)
        if self._first_at is None:
            self._first_at = perf_counter()
        if chunk.is_last:
            self._outcome, self._tokens = "ok", chunk.tokens
        return chunk

    def __enter__(self) -> Counted:
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._outcome = fault_of(error).code
        wanted = self._wanted
        now = perf_counter()
        self._meter.count(wanted.task, wanted.model, self._outcome, now - self._started, self._tokens)
        if self._is_streamed and self._first_at is not None:
            self._meter.first_token.observe(wanted.model, wanted.call.priority, self._first_at - self._started)
            if self._outcome == "ok" and self._tokens.completion > 1:
                each_s = (now - self._first_at) / (self._tokens.completion - 1)
                self._meter.each_token.observe(wanted.model, wanted.call.priority, each_s)


def name_input(error: BadInput, field: Field) -> BadInput:
    """The refusal of one input names it, by the field of the body and its number: as `key`, and before its sentence
    where that is one of several. OpenAI's routes use OpenAI's code."""
    kind, message = type(error), error.message
    if field.is_openai and isinstance(error, TooLong) and "unit" not in error.detail:
        kind, message = ContextLengthExceeded, f"{_context(error)} {message}"
    index, detail = error.detail.get("index"), dict(error.detail)
    if isinstance(index, int) and "key" not in detail:
        detail["key"] = field.path(index, str(detail.get("at", "")))
        if field.is_list:
            message = f"{field.path(index)}: {message}"
    return kind(message, **detail)


def _context(error: TooLong) -> str:
    """The limit in the words, and with the plain digits, by which OpenAI's clients tell this refusal from others."""
    limit, context = error.detail["limit"], error.detail.get("context")
    if context is None:
        return f"This model's maximum context length is {limit} tokens."
    return f"This model's maximum context length is {context} tokens, its answer's among them."


def _client_left() -> Cancelled:
    return Cancelled("The client left before the answer was ready")


async def _led_by(first: Chunk, rest: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk
