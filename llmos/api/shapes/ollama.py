"""Ollama's interface: /api/chat, generate, embed and embeddings, streamed as JSON lines, and what models there are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from time import perf_counter_ns
from typing import Any

import msgspec
from starlette.requests import Request

from llmos import __version__
from llmos.abi.call import Chunk, Operation, Tokens
from llmos.abi.error import BadInput, Fault
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.model import Kind
from llmos.abi.task import find_spec
from llmos.api.call_service import Field, without_unset
from llmos.api.endpoint import Endpoint, Media, Reply, reply
from llmos.api.errors import ErrorShape
from llmos.api.key_guard import check_model, check_name, has_scope, may_use, permit
from llmos.api.openai_unsupported import parse_supported
from llmos.api.shapes import ollama_models
from llmos.api.shapes.chat import CHAT, GENERATE, Naming, ShapedCall, chat_call, prompt_call
from llmos.api.shapes.ollama_request import (
    NAMES,
    UNSUPPORTED,
    OllamaAnswer,
    OllamaCall,
    OllamaChat,
    OllamaEmbed,
    OllamaEmbedding,
    OllamaPrompt,
    OllamaShow,
    naming_of,
)
from llmos.api.shapes.services import Services
from llmos.api.stream import LINES, JsonLines, fault_body, line
from llmos.api.tasks import floats
from llmos.api.texts import texts_of

BODY = msgspec.json.Decoder(dict[str, Any])
ENDS_PROCESSES = KeyScope.TRAIN  # as of the program `serve`
SHOW = msgspec.json.Decoder(OllamaShow)
_NO_MESSAGE: dict[str, Json] = {"message": {"role": "assistant", "content": ""}}
_NO_RESPONSE: dict[str, Json] = {"response": ""}
Part = Callable[[Json], dict[str, Json]]  # the fields of an answer, or of a piece of one, from the task's output


class OllamaRefusal(msgspec.Struct):
    """Ollama's shape of an error, with our `code` and `detail` beside it."""

    error: str
    code: str
    detail: dict[str, Json]


ERRORS = ErrorShape(lambda fault, _: _refusal(fault), OllamaRefusal)


def _refusal(fault: Fault) -> OllamaRefusal:
    return OllamaRefusal(fault.message, fault.code, fault.detail)


class Ollama:
    """The routes of Ollama."""

    def __init__(self, services: Services) -> None:
        self._calls, self._bodies = services.calls, services.bodies
        self._models, self._refs = services.kernel.models, services.kernel.calls.ref
        self._let_go = services.kernel.calls.unload

    def endpoints(self) -> list[Endpoint]:
        route = partial(Endpoint, gives=dict[str, Any], tag="ollama", errors=ERRORS, scope=KeyScope.INFER)
        lines = (Media(LINES, dict[str, Any]),)
        prompt, vectors = "Answer a prompt, in Ollama's shape", "Embed texts, in Ollama's shape"
        one, tags = "Embed a text, in Ollama's earlier shape", "List models, in Ollama's shape"
        loaded, version = "List the models that are loaded, in Ollama's shape", "Say the version, in Ollama's shape"
        return [
            route("POST", "/api/chat", self.chat, "Chat, in Ollama's shape", OllamaChat, also=lines),
            route("POST", "/api/generate", self.generate, prompt, OllamaPrompt, also=lines),
            route("POST", "/api/embed", self.embed, vectors, OllamaEmbed),
            route("POST", "/api/embeddings", self.embedding, one, OllamaEmbedding),
            route("POST", "/api/show", self.show, "Show a model, in Ollama's shape", OllamaShow),
            route("GET", "/api/tags", self.tags, tags),
            route("GET", "/api/ps", self.ps, loaded),
            route("GET", "/api/version", self.version, version),
        ]

    async def chat(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), OllamaChat, UNSUPPORTED)
        if not body.messages:
            return await self._load(request, body, CHAT, _NO_MESSAGE)
        call = chat_call(self._calls, body.chat(), naming_of(len(body.messages)))
        return await self._answer(request, call, _message, body)

    async def generate(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), OllamaPrompt, UNSUPPORTED)
        able = map(find_spec, self._models.get(self._refs(body.model)).capabilities)
        does_chat = any(one is not None and one.is_conversation for one in able)
        if not body.prompt:
            return await self._load(request, body, CHAT if does_chat else GENERATE, _NO_RESPONSE)
        if does_chat and not body.raw:
            places = ["system", "prompt"] if body.system is not None else ["prompt"]
            call = chat_call(self._calls, body.chat(), Naming(NAMES, places))
            return await self._answer(request, call, _response_of_message, body)
        call = prompt_call(self._calls, body.completion(), Naming(NAMES))
        return await self._answer(request, call, _response, body)

    async def _load(self, request: Request, body: OllamaCall, task: str, empty: dict[str, Json]) -> Reply:
        """A request without a prompt asks for the model alone: that it is loaded, or unloaded."""
        started = perf_counter_ns()
        check_model(request, ref := self._refs(body.model))
        if body.unloads:
            if self._is_base(ref):
                permit(request, ENDS_PROCESSES)
            self._let_go(ref)
        else:
            await self._calls.whole(self._calls.tokens_for(body, Operation.LOAD, [], {}, Field("model"), task), request)
        took = perf_counter_ns() - started
        ended = {"done": True, "done_reason": "unload" if body.unloads else "load", "total_duration": took}
        return reply({**_head(ref), **empty, **ended})

    async def embed(self, request: Request) -> Reply:
        started = perf_counter_ns()
        body = parse_supported(await self._bodies.read(request, BODY), OllamaEmbed, UNSUPPORTED)
        texts = [body.input] if isinstance(body.input, str) else body.input
        if not texts:
            raise BadInput("input is an empty list. Send at least one text", key="input", reason="empty")
        params = without_unset({"truncate": body.truncate, "dimensions": body.dimensions})
        field = Field("input", isinstance(body.input, list))
        model, chunk = await self._vectors(request, body, texts_of(texts, "input"), params, field)
        vectors = [floats(one["data"]) for one in chunk.outputs]
        took = {"total_duration": perf_counter_ns() - started, "prompt_eval_count": chunk.tokens.prompt}
        return reply({"model": model, "embeddings": vectors, **took})

    async def embedding(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), OllamaEmbedding, UNSUPPORTED)
        _, chunk = await self._vectors(request, body, [body.prompt], {}, Field("prompt"))
        return reply({"embedding": floats(chunk.outputs[0]["data"])})

    async def _vectors(
        self, request: Request, body: OllamaCall, texts: list[Json], params: dict[str, Json], field: Field
    ) -> tuple[str, Chunk]:
        wanted = self._calls.call_for(body, "embed", texts, params, field)
        chunk = await self._calls.whole(wanted, request)
        if body.unloads:
            self._unload(wanted.model, request)
        return wanted.model, chunk

    async def show(self, request: Request) -> Reply:
        body = await self._bodies.read(request, SHOW)
        check_name(request, body.model or body.name)
        ref = self._refs(body.model or body.name)
        check_model(request, ref)
        return reply(ollama_models.details(self._models.get(ref)))

    async def tags(self, request: Request) -> Reply:
        found = [one for one in self._models.all() if one.is_promoted and may_use(request, one.manifest.ref)]
        return reply({"models": [*map(ollama_models.list_entry, found)]})

    async def ps(self, request: Request) -> Reply:
        found = [one for one in self._models.all() if one.is_attached and may_use(request, one.manifest.ref)]
        return reply({"models": [*map(ollama_models.list_entry, found)]})

    async def version(self, request: Request) -> Reply:
        return reply({"version": __version__})

    async def _answer(self, request: Request, call: ShapedCall, part: Part, body: OllamaAnswer) -> Reply:
        started = perf_counter_ns()
        made: Reply
        if body.stream:
            lines = _lines(await call.stream(request), call.model, part, started)
            made = JsonLines(_then(lines, partial(self._unload, call.model, request)) if body.unloads else lines)
        else:
            chunk = await call.whole(request)
            if body.unloads:
                self._unload(call.model, request)
            output = chunk.outputs[0]
            made = reply({**_head(call.model), **part(output), **_end(output, chunk.tokens, started)})
        made.raw_headers += call.headers
        return made

    def _unload(self, ref: str, request: Request) -> None:
        """Unload a model after its answer; a base stays if the request's key may end no process, which others use."""
        if not self._is_base(ref) or has_scope(request, ENDS_PROCESSES):
            self._let_go(ref)

    def _is_base(self, ref: str) -> bool:
        return self._models.get(ref).manifest.kind is Kind.BASE


async def _lines(
    chunks: AsyncGenerator[Chunk, None], model: str, part: Part, started: int
) -> AsyncGenerator[bytes, None]:
    """A line for each piece, and a last one without text. Durations are nanoseconds, as the daemon sees them."""
    first = 0
    try:
        async for chunk in chunks:
            first = first or perf_counter_ns()
            for piece in chunk.outputs:
                said = part(piece)
                if _says(said):
                    yield line({**_head(model), **said, "done": False})
                if piece["finish_reason"]:
                    took = {"prompt_eval_duration": first - started, "eval_duration": perf_counter_ns() - first}
                    yield line({**_head(model), **_without_text(said), **_end(piece, chunk.tokens, started), **took})
    except Exception as error:  # noqa: BLE001  # the top of a stream; the clients raise what such a line says
        yield line(fault_body(error, ERRORS))


async def _then(lines: AsyncGenerator[bytes, None], do: Callable[[], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(lines):
        async for one in lines:
            yield one
    do()


def _says(said: dict[str, Json]) -> bool:
    message = said.get("message")
    return bool(said.get("response") or said.get("logprobs")) or (
        isinstance(message, dict) and bool(message.get("content") or message.get("tool_calls"))
    )


def _without_text(said: dict[str, Json]) -> dict[str, Json]:
    return _NO_MESSAGE if "message" in said else _NO_RESPONSE


def _message(output: Json) -> dict[str, Json]:
    said = output["message"]
    message = {"role": "assistant", "content": said.get("content") or ""}
    calls = [
        {"id": one["id"], "function": {"name": one["function"]["name"], "arguments": _arguments(one)}}
        for one in said.get("tool_calls") or ()
    ]
    return {"message": message | ({"tool_calls": calls} if calls else {}), **_logprobs_of(output)}


def _response(output: Json) -> dict[str, Json]:
    return {"response": output["text"], **_logprobs_of(output)}


def _response_of_message(output: Json) -> dict[str, Json]:
    return {"response": output["message"].get("content") or "", **_logprobs_of(output)}


def _logprobs_of(output: Json) -> dict[str, Json]:
    return {"logprobs": output["logprobs"]} if output.get("logprobs") else {}


def _arguments(call: Json) -> Json:
    return msgspec.json.decode(call["function"]["arguments"])


def _head(model: str) -> dict[str, Json]:
    return {"model": model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def _end(output: Json, tokens: Tokens, started: int) -> dict[str, Json]:
    reason = "length" if output["finish_reason"] == "length" else "stop"
    counts = {"prompt_eval_count": tokens.prompt, "eval_count": tokens.completion}
    return {"done": True, "done_reason": reason, "total_duration": perf_counter_ns() - started, **counts}


SHAPE = Ollama
