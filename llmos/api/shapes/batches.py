"""/v1/batches: many requests in a file, answered behind live calls, in OpenAI's shape."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from starlette.requests import Request

from llmos.abi.batch import Batch, BatchState, BatchStatus
from llmos.abi.error import BadInput, NotFound
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.task import find_spec
from llmos.abi.upload import FILE_PREFIX
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.key_guard import key_of, may_see
from llmos.api.query import Query, asked_of
from llmos.api.shapes.metadata import check_metadata
from llmos.api.shapes.pages import page_of
from llmos.api.shapes.services import Services

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/run")
TASK = re.compile(r"/v1/tasks/([a-z_]+)")
MOST, USUAL = 100, 20  # of a page
PAGE = (
    Query("after", "the id of the last batch of the page before", "string"),
    Query("limit", f"at most this many, to {MOST} (default {USUAL})", "integer"),
)


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A batch to begin. `completion_window` is a time such as `24h`: a line not answered by then gets an error.

    `output_expires_after` is ignored: files stay until they are removed.
    """

    input_file_id: Annotated[str, msgspec.Meta(max_length=128)]
    endpoint: Annotated[str, msgspec.Meta(max_length=128)]
    completion_window: Annotated[str, msgspec.Meta(max_length=20)] = "24h"
    metadata: dict[str, str] | None = None
    output_expires_after: dict[str, Json] | None = None


class BatchFault(msgspec.Struct):
    """Why the file of a batch does not fit."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchFaultList(msgspec.Struct):
    """All that does not fit, at most 100."""

    data: list[BatchFault]
    object: str = "list"


class RequestCounts(msgspec.Struct):
    """Lines: all, those with an answer, and those with an error."""

    total: int
    completed: int
    failed: int


class BatchView(msgspec.Struct, kw_only=True):
    """A batch. Times are seconds since the epoch; `pid` is its process.

    `output_file_id` and `error_file_id` come with their first line; until the batch ends, the files grow.
    """

    id: str
    object: str = "batch"
    endpoint: str
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    errors: BatchFaultList | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None
    pid: int | None


class BatchList(msgspec.Struct):
    """A page of batches, the newest first."""

    data: list[BatchView]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    object: str = "list"


CREATE = msgspec.json.Decoder(BatchRequest)


class BatchRoutes:
    """The routes of batches."""

    def __init__(self, services: Services) -> None:
        self._kernel = services.kernel
        self._bodies = services.bodies

    def endpoints(self) -> list[Endpoint]:
        all_of_them, one, scope = "/v1/batches", "/v1/batches/{batch_id}", KeyScope.INFER
        return [
            Endpoint("GET", all_of_them, self.list, "List batches", gives=BatchList, query=PAGE, scope=scope),
            Endpoint(
                "POST", all_of_them, self.create, "Ask the requests of a file", BatchRequest, BatchView, scope=scope
            ),
            Endpoint("GET", one, self.show, "Show a batch", gives=BatchView, scope=scope),
            Endpoint("POST", f"{one}/cancel", self.cancel, "End a batch", gives=BatchView, scope=scope),
        ]

    async def list(self, request: Request) -> Reply:
        asked = asked_of(request)
        newest = [one for one in self._kernel.batches.all()[::-1] if may_see(request, one.key)]
        limit: Any = asked.get("limit") or USUAL  # Any: a query's value
        page, has_more = page_of(newest, lambda one: one.id, asked.get("after"), limit, MOST)
        views = [await self._view(one) for one in page]
        ends = (views[0].id, views[-1].id) if views else (None, None)
        return reply(BatchList(views, has_more, *ends))

    async def create(self, request: Request) -> Reply:
        body = await self._bodies.read(request, CREATE)
        check_endpoint(body.endpoint)
        metadata = check_metadata(body.metadata)
        batch = await self._kernel.batches.create(
            body.input_file_id, body.endpoint, body.completion_window, metadata, key_of(request)
        )
        return reply(await self._view(batch))

    async def show(self, request: Request) -> Reply:
        return reply(await self._view(self._batch(request)))

    async def cancel(self, request: Request) -> Reply:
        return reply(await self._view(await self._kernel.batches.cancel(self._batch(request).id)))

    def _batch(self, request: Request) -> Batch:
        """The batch of this id, if the request's key may see it; NotFound otherwise."""
        batch = self._kernel.batches.get(request.path_params["batch_id"])
        if not may_see(request, batch.key):
            raise NotFound(f"No batch {batch.id} of this key. All: GET /v1/batches", batch=batch.id)
        return batch

    async def _view(self, batch: Batch) -> BatchView:
        return batch_view(batch, await self._kernel.batches.state(batch))


def batch_view(batch: Batch, state: BatchState) -> BatchView:
    """A batch as OpenAI's clients read it."""
    has_output = batch.has_output if batch.state else state.completed > 0
    has_errors = batch.has_errors if batch.state else state.failed > 0

    def ended_as(status: BatchStatus) -> int | None:
        return _seconds(state.ended_at) if state.status is status else None

    return BatchView(
        id=batch.id,
        endpoint=batch.endpoint,
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=state.status,
        output_file_id=f"{FILE_PREFIX}{batch.output}" if has_output else None,
        error_file_id=f"{FILE_PREFIX}{batch.errors}" if has_errors else None,
        errors=BatchFaultList([BatchFault(one.code, one.message, one.line, one.param) for one in state.faults])
        if state.faults
        else None,
        created_at=int(batch.created_at),
        expires_at=int(batch.expires_at),
        in_progress_at=_seconds(state.in_progress_at),
        finalizing_at=_seconds(state.finalizing_at),
        completed_at=ended_as(BatchStatus.COMPLETED),
        failed_at=ended_as(BatchStatus.FAILED),
        expired_at=ended_as(BatchStatus.EXPIRED),
        cancelling_at=_seconds(batch.cancelling_at),
        cancelled_at=ended_as(BatchStatus.CANCELLED),
        request_counts=RequestCounts(state.total, state.completed, state.failed),
        metadata={key: str(value) for key, value in batch.metadata.items()} or None,
        pid=batch.pid,
    )


def check_endpoint(endpoint: str) -> None:
    """BadInput for a route that batches do not ask."""
    task = TASK.fullmatch(endpoint)
    if endpoint in ROUTES or (task is not None and find_spec(task[1]) is not None):
        return
    known = [*ROUTES, "/v1/tasks/{task}"]
    said = f"endpoint is {endpoint[:80]!r}; a batch asks one of {', '.join(known)}"
    raise BadInput(said, key="endpoint", value=endpoint[:80], expected=known)


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


SHAPE = BatchRoutes
