"""/v1/run and /v1/tasks/{task}: asks any model, whole or streamed. The hot path: only msgspec decodes and encodes."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import AsyncGenerator

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from llmos.abi.call import Chunk, Tokens
from llmos.abi.error import BadInput, NotFound
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.task import find_spec, generative_tasks, spec_of, task_names
from llmos.api.call_service import CallApi, CallFields, Field, Wanted, without_unset
from llmos.api.endpoint import Bodies, Endpoint, Media, Reply, header_of, reply
from llmos.api.stream import EVENTS, ServerSentEvents, event, fault
from llmos.tasks.inputs import check_params


class TaskRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """A call: `input` for one input, `inputs` for several; `params` are the task's own."""

    input: Json = msgspec.UNSET
    inputs: list[Json] | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, Json] = msgspec.field(default_factory=dict)
    stream: bool = False


class TaskReply(msgspec.Struct):
    """One output per answer.

    In a stream: the newest delta (with `index` if there are several answers); `done` in the last.
    """

    model: str
    task: str
    outputs: list[Json]
    tokens: Tokens
    done: bool = True


DECODER = msgspec.json.Decoder(TaskRequest)
RAW = "application/octet-stream"  # for vectors as little-endian float32 without JSON


class Tasks:
    """The routes for calls: to a model's own task, or to the one in the path."""

    def __init__(self, caller: CallApi, bodies: Bodies) -> None:
        self._caller = caller
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        names, generative = ", ".join(task_names()), ", ".join(generative_tasks())
        doc = f"Ask a model. Tasks: {names}. With `stream` ({generative}), server-sent events"
        own = "Ask a model for its own task. The reply says which one it is"
        also = (Media(EVENTS, TaskReply), Media(RAW))
        return [
            Endpoint("POST", "/v1/run", self.run, own, TaskRequest, TaskReply, also=also, scope=KeyScope.INFER),
            Endpoint(
                "POST", "/v1/tasks/{task}", self.ask, doc, TaskRequest, TaskReply, also=also, scope=KeyScope.INFER
            ),
        ]

    async def run(self, request: Request) -> Reply:
        body = await self._bodies.read(request, DECODER)
        return await self._answer(request, body, self._caller.task_of(body.model))

    async def ask(self, request: Request) -> Reply:
        task = request.path_params["task"]
        if find_spec(task) is None:
            raise NotFound(f"No task {task!r}. There are: {', '.join(task_names())}")
        return await self._answer(request, await self._bodies.read(request, DECODER), task)

    async def _answer(self, request: Request, body: TaskRequest, task: str) -> Reply:
        spec = spec_of(task)
        params = without_unset(body.params)
        check_params(task, params)
        inputs = _inputs(body)
        encoding = params.pop("encoding", "float") if spec.gives_vectors else "float"
        if encoding not in ("float", "base64"):
            raise BadInput(f"encoding is {encoding!r}; it must be float or base64", key="encoding")
        field = Field("input" if body.inputs is msgspec.UNSET else "inputs", body.inputs is not msgspec.UNSET)
        wanted = self._caller.call_for(body, task, inputs, params, field)
        if body.stream:
            return await self._stream(wanted, request)
        chunk = await self._caller.whole(wanted, request)
        if spec.gives_vectors and header_of(request.scope, b"accept") == RAW:
            return _raw(wanted.model, chunk)
        outputs = [_vector(one, encoding) for one in chunk.outputs] if spec.gives_vectors else list(chunk.outputs)
        return reply(TaskReply(wanted.model, task, outputs, chunk.tokens))

    async def _stream(self, wanted: Wanted, request: Request) -> Reply:
        if not spec_of(wanted.task).is_generative:
            raise BadInput(f"Only {', '.join(generative_tasks())} stream. Leave out `stream`")

        async def events() -> AsyncGenerator[bytes, None]:
            try:
                async for chunk in chunks:
                    piece = TaskReply(wanted.model, wanted.task, list(chunk.outputs), chunk.tokens, chunk.is_last)
                    yield event(piece)
            except Exception as error:  # noqa: BLE001  # the top of a stream
                yield fault(error, name="error")

        chunks = await self._caller.stream_chunks(wanted, request)
        return ServerSentEvents(events())


def _inputs(body: TaskRequest) -> list[Json]:
    if body.inputs is msgspec.UNSET:
        if body.input is msgspec.UNSET:
            raise BadInput("The body has neither `input` nor `inputs`. Send one of them")
        return [body.input]
    if body.input is not msgspec.UNSET:
        raise BadInput("The body has both `input` and `inputs`. Send one of them")
    if not body.inputs:
        raise BadInput("`inputs` is empty. Send at least one input")
    return body.inputs


def floats(data: bytes) -> tuple[float, ...]:
    """Little-endian float32 bytes as numbers."""
    return struct.unpack(f"<{len(data) // 4}f", data)


def _vector(output: Json, encoding: str) -> Json:
    data: bytes = output["data"]
    return {"dim": output["dim"], "vector": floats(data) if encoding == "float" else b64encode(data).decode()}


def _raw(model: str, chunk: Chunk) -> Response:
    """The vectors, one after another, as raw bytes; headers carry the rest."""
    headers = {
        "X-Llmos-Model": model,
        "X-Llmos-Shape": f"{len(chunk.outputs)},{chunk.outputs[0]['dim']}",
        "X-Llmos-Dtype": "float32",
        "X-Llmos-Tokens": str(chunk.tokens.prompt),
    }
    return Response(b"".join(one["data"] for one in chunk.outputs), headers=headers, media_type=RAW)
