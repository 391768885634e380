"""Makes calls to the kernel for all routes: common fields, streaming, client disconnects, metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import perf_counter, time
from types import TracebackType
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.types import Scope

from llmos.abi.call import CallRequest, CallTimes, Chunk, Operation, Tokens
from llmos.abi.call_record import answers_of, join_pieces, user_of
from llmos.abi.disagreement import CallOrigin
from llmos.abi.error import (
    BadInput,
    Cancelled,
    ContextLengthExceeded,
    Internal,
    TooLong,
    error_of,
    fault_of,
)
from llmos.abi.histogram import Histogram
from llmos.abi.json_type import Json
from llmos.abi.process import Priority
from llmos.api.exchange import Attended
from llmos.api.key_guard import Visit, visit_of
from llmos.kernel.interface import KernelInterface, RequestsInterface, SlosInterface, UsageInterface
from llmos.kernel.requests.call_row import CallRow

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
EACH_TOKEN_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class CallFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields that every call's body may have.

    `model`; `timeout_s`, the time limit for the answer; `priority` (earlier name: `class`), which decides who goes
    first when calls must wait; `engine`, which must answer; `user`, on whose behalf it is made; and `store`, which is
    false if its text must not be kept.
    """

    model: str
    timeout_s: Seconds | None = None
    priority: Priority | None = None
    earlier_priority: Priority | None = msgspec.field(name="class", default=None)
    engine: str | None = None
    user: str | None = None
    store: bool | None = None

    @property
    def runs_as(self) -> Priority:
        """The requested priority, under either name."""
        return one_priority(self.priority, self.earlier_priority) or Priority.INTERACTIVE

    @property
    def for_call(self) -> dict[str, Json]:
        """All of them, for a body in another shape that makes the same call."""
        names = ("model", "timeout_s", "engine", "user", "store")
        return {"priority": self.runs_as, **{name: getattr(self, name) for name in names}}


def one_priority(priority: Priority | None, earlier: Priority | None) -> Priority | None:
    """The value of `priority` or of its earlier name `class`; BadInput if both are given and differ."""
    if priority is not None and earlier is not None and priority is not earlier:
        raise BadInput(
            f"priority is {priority} and class is {earlier}; class is its earlier name. Send only priority",
            key="priority",
        )
    return priority or earlier


@dataclass(frozen=True, slots=True)
class Field:
    """The body's field with the inputs, which refusals name; `is_openai` on OpenAI's routes."""

    name: str
    is_list: bool = False
    is_openai: bool = False

    def path(self, index: int, at: str = "") -> str:
        """The path of the input with this index, or of the part `at` of it."""
        if at.startswith(self.name):  # a chat's messages are its only input
            return at
        whole = f"{self.name}[{index}]" if self.is_list else self.name
        return f"{whole}.{at}" if at else whole


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call with its model resolved to a full ref."""

    call: CallRequest
    task: str
    field: Field
    user: str = ""
    store: bool | None = None

    @property
    def model(self) -> str:
        return self.call.model


class Meter:
    """Counts finished calls by outcome, with their duration and tokens."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, str]] = Counter()
        self.tokens: Counter[tuple[str, str, str]] = Counter()
        self.buckets: dict[tuple[str, str], list[int]] = {}  # by task and model
        self.seconds: Counter[tuple[str, str]] = Counter()
        self.refusals: Counter[str] = Counter()  # by code
        self.first_token = Histogram(FIRST_TOKEN_S)
        self.each_token = Histogram(EACH_TOKEN_S)

    def count(self, task: str, model: str, outcome: str, seconds: float, tokens: Tokens) -> None:
        """Count a finished call; `outcome` is ok, or the error's code."""
        self.calls[task, model, outcome] += 1
        self.tokens[task, model, "prompt"] += tokens.prompt
        self.tokens[task, model, "completion"] += tokens.completion
        key = (task, model)
        buckets = self.buckets.get(key)
        if buckets is None:
            buckets = self.buckets[key] = [0] * (len(BOUNDS_S) + 1)
        buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds[key] += seconds  # type: ignore[assignment]  # a Counter adds floats as well as ints


class CallApi:
    """Makes kernel calls for the routes."""

    def __init__(self, kernel: KernelInterface, meter: Meter) -> None:
        self._calls = kernel.calls
        self._requests = kernel.requests
        self._rollouts = kernel.rollouts
        self._usage = kernel.usage
        self._slos = kernel.slos
        self._monitoring = kernel.monitoring
        self._meter = meter

    def task_of(self, model: str) -> str:
        """The task of the version to which a call to this name or ref goes now."""
        return self._calls.task_of(model)

    def call_for(
        self, said: CallFields, task: str, inputs: list[Json], params: dict[str, Json], field: Field
    ) -> Wanted:
        """The call in a body, to the version that its model name means now; the answer reports that version.

        While a rollout of the name is under way, that is the version of the call's user, or without one of its inputs.
        """
        chosen = self._rollouts.choose(said.model, said.user, inputs)
        ref, rollout = (self._calls.ref(said.model), "") if chosen is None else (chosen.ref, chosen.rollout)
        call = CallRequest(ref, tuple(inputs), params, task, said.timeout_s, said.runs_as, said.engine, rollout)
        return Wanted(call, task, field, user_of(said.user), said.store)

    def tokens_for(
        self,
        said: CallFields,
        operation: Operation,
        inputs: list[Json],
        params: dict[str, Json],
        field: Field,
        task: str | None = None,
    ) -> Wanted:
        """The call that a model's tokenizer answers alone; it is no call of a rollout."""
        ref, engine = self._calls.ref(said.model), said.engine
        call = CallRequest(ref, tuple(inputs), params, task, said.timeout_s, said.runs_as, engine, operation=operation)
        return Wanted(call, operation, field, user_of(said.user), said.store)

    async def whole(self, wanted: Wanted, request: Request) -> Chunk:
        """The whole answer; Cancelled if the client left first."""
        visit, held = visit_of(request.scope), 0
        if visit is not None:
            wanted, held = _take(visit, wanted, request)
        if wanted.call.rollout:
            wanted = _with_origin(wanted, request.scope)
        try:
            with Attended(request.scope, request.receive), self._count_call(wanted, request.scope, held) as counted:
                return self._note(wanted, counted.count_piece(await self._calls.answer(wanted.call)))
        except BadInput as error:
            raise name_input(error, wanted.field) from error
        raise _client_left()

    async def stream_chunks(self, wanted: Wanted, request: Request) -> AsyncGenerator[Chunk, None]:
        """The answer in chunks.

        The first chunk is awaited here, so that an error before it still has its own HTTP status.
        """
        visit, held = visit_of(request.scope), 0
        if visit is not None:
            wanted, held = _take(visit, wanted, request)
        chunks = self._pieces(wanted, request.scope, held)
        with Attended(request.scope, request.receive):
            async for first in chunks:
                return _led_by(first, chunks)
            raise Internal(f"The call to {wanted.model} ended without an answer")
        await chunks.aclose()
        raise _client_left()

    async def _pieces(self, wanted: Wanted, scope: Scope, held: int) -> AsyncGenerator[Chunk, None]:
        chunks = self._calls.stream(wanted.call)
        try:
            with self._count_call(wanted, scope, held, is_streamed=True) as counted:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        yield counted.count_piece(chunk)
        except BadInput as error:
            raise name_input(error, wanted.field) from error

    def _note(self, wanted: Wanted, chunk: Chunk) -> Chunk:
        """A whole answer, which the monitor of its version notes, if there is one."""
        if self._monitoring.is_on:
            keeps_text = self._requests.keeps_text and wanted.store is not False
            self._monitoring.note(wanted.model, wanted.call.inputs, chunk, keeps_text=keeps_text)
        return chunk

    def _count_call(self, wanted: Wanted, scope: Scope, held: int, *, is_streamed: bool = False) -> CountedCall:
        return CountedCall(
            self._meter, self._usage, self._requests, self._slos, wanted, scope, held=held, is_streamed=is_streamed
        )


class CountedCall:
    """Counts and records one call when the block ends: as ok after its last chunk, else by the error's code."""

    def __init__(
        self,
        meter: Meter,
        usage: UsageInterface,
        requests: RequestsInterface,
        slos: SlosInterface,
        wanted: Wanted,
        scope: Scope,
        *,
        held: int = 0,
        is_streamed: bool = False,
    ) -> None:
        """`held` are the tokens that the call holds of its key's limits, which are settled here."""
        self._meter = meter
        self._usage = usage
        self._requests = requests
        self._slos = slos
        self._wanted = wanted
        self._scope = scope
        self._is_streamed = is_streamed
        self._keeps_text = requests.keeps_text and wanted.store is not False
        self._outputs: list[Json] = []
        self._visit, self._held = visit_of(scope), held
        self._outcome = "cancelled"
        self._first_at: float | None = None
        self._tokens = Tokens()
        self._times: CallTimes | None = None

    def count_piece(self, chunk: Chunk) -> Chunk:
        """Note a chunk that is about to be sent, because sending it may never return. A fault is raised instead."""
        if chunk.fault is not None:
            raise error_of(chunk.fault)
        if self._first_at is None:
            self._first_at = perf_counter()
        if self._keeps_text:
            self._outputs += chunk.outputs
        if chunk.is_last:
            self._outcome, self._tokens, self._times = "ok", chunk.tokens, chunk.times
        return chunk

    def __enter__(self) -> CountedCall:
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
        self._usage.count(
            self._scope.get("key") or "",
            wanted.model,
            is_ok=self._outcome == "ok",
            input_tokens=self._tokens.prompt,
            output_tokens=self._tokens.completion,
        )
        if self._visit is not None:
            used = self._tokens.prompt + self._tokens.completion
            # a client that leaves before the end has used what it held: it must not gain by leaving
            self._visit.settle(self._held, self._held if self._outcome == Cancelled.code else used)
        if self._slos.is_on and wanted.call.operation is Operation.ANSWER:  # a load is slow, and answers nothing
            self._slos.note(wanted.model, self._outcome, now - self._started)
        self._keep_trace(now)
        if self._requests.is_on:
            self._requests.note(self._row(now - self._started), wanted.call.priority)
        if self._is_streamed and self._first_at is not None:
            self._meter.first_token.observe(wanted.model, wanted.call.priority, self._first_at - self._started)
            if self._outcome == "ok" and self._tokens.completion > 1:
                each_s = (now - self._first_at) / (self._tokens.completion - 1)
                self._meter.each_token.observe(wanted.model, wanted.call.priority, each_s)

    def _keep_trace(self, now: float) -> None:
        """Keep how long each stage took; only of requests that have an id."""
        scope, wanted, seconds = self._scope, self._wanted, now - self._started
        stream_s = now - self._first_at if self._is_streamed and self._first_at is not None else 0.0
        if (call_id := scope.get("call_id")) is not None:
            self._requests.traces.add(
                (
                    call_id,
                    time() - seconds,
                    wanted.model,
                    wanted.task,
                    self._outcome,
                    seconds,
                    stream_s,
                    self._times,
                    scope.get("trace"),
                    self._tokens,
                )
            )

    def _row(self, seconds: float) -> CallRow:
        wanted, scope = self._wanted, self._scope
        inputs: tuple[Json, ...] | None = None
        outputs: tuple[Json, ...] | None = None
        if self._keeps_text:
            inputs = wanted.call.inputs
            outputs = join_pieces(self._outputs) if self._is_streamed else answers_of(self._outputs)
        return (
            scope.get("call_id", ""),
            time() - seconds,
            seconds,
            scope["path"],
            wanted.call.model,
            wanted.task,
            self._outcome,
            len(wanted.call.inputs),
            scope.get("key") or "",
            wanted.user,
            self._tokens.prompt,
            self._tokens.completion,
            inputs,
            outputs,
        )


def _take(visit: Visit, wanted: Wanted, request: Request) -> tuple[Wanted, int]:
    """The call as the request's key may make it, and the tokens that it holds."""
    call, held = visit.take_call(wanted.call, request.scope["share"].size_bytes)
    return wanted if call is wanted.call else replace(wanted, call=call), held


def _with_origin(wanted: Wanted, scope: Scope) -> Wanted:
    """The call that a rollout counts, with whose it is and whether its text may be kept."""
    call_id, key = scope.get("call_id") or "", scope.get("key") or ""
    origin = CallOrigin(call_id, wanted.user, key, wanted.store is not False)
    return replace(wanted, call=replace(wanted.call, origin=origin))


def without_unset(said: dict[str, Json]) -> dict[str, Json]:
    """The fields that have a value."""
    return {key: value for key, value in said.items() if value is not None}


def name_input(error: BadInput, field: Field) -> BadInput:
    """Add the input's path to an error about one input: as `key`, and before the message if there are several inputs.

    OpenAI's routes use OpenAI's code.
    """
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
    """The context limit in the words and digits by which OpenAI's clients recognize this error."""
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
