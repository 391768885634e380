"""/v1/chat/completions and /v1/completions: chat and generate in OpenAI's shape, so that its clients work unchanged."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.call import Chunk, Tokens
from llmos.abi.error import BadInput, LlmosError
from llmos.api.caller import Caller, Wanted
from llmos.api.endpoint import Answer, Bodies, Endpoint, reply
from llmos.api.errors import shape_of
from llmos.api.params import supported
from llmos.api.stream import EventStream, event

Json = Any  # Any: a JSON value in OpenAI's shape, or the task's

DONE = b"data: [DONE]\n\n"
BODY = msgspec.json.Decoder(dict[str, Any])


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`include_usage` adds one more event, with the tokens."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Sampled(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What chat and plain completions share."""

    model: str
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    user: str | None = None

    def params(self) -> dict[str, Json]:
        """The task's params: those that were given."""
        keys = ("temperature", "top_p", "top_k", "max_tokens", "stop", "seed")
        return {key: value for key in keys if (value := getattr(self, key)) is not None}


class ChatRequest(Sampled, kw_only=True, forbid_unknown_fields=True):
    """`max_completion_tokens` is the newer name of `max_tokens`."""

    messages: list[dict[str, Json]]
    max_completion_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is None:
            self.max_tokens = self.max_completion_tokens


class CompletionRequest(Sampled, kw_only=True, forbid_unknown_fields=True):
    """Text that continues a prompt, or one for each of several."""

    prompt: str | list[Json]


class Usage(msgspec.Struct):
    """Tokens read and made."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(msgspec.Struct):
    """An answer; in a stream, `choices` hold a `delta` (chat) or the next `text`."""

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Json]]
    usage: Usage | None = None


class OpenAI:
    """The routes of chat and completions."""

    def __init__(self, caller: Caller, bodies: Bodies) -> None:
        self._caller = caller
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        chat, plain = "/v1/chat/completions", "/v1/completions"
        return [
            Endpoint("POST", chat, self.chat, "Chat, in OpenAI's shape", ChatRequest, Completion),
            Endpoint("POST", plain, self.complete, "Continue a prompt", CompletionRequest, Completion),
        ]

    async def chat(self, request: Request) -> Answer:
        body = supported(await self._bodies.read(request, BODY), ChatRequest)
        inputs = [{"messages": body.messages}]
        wanted = Wanted(self._caller.ref(body.model), "chat", inputs, body.params())
        head = _head("chatcmpl", "chat.completion", wanted.model)
        if body.stream:
            return await self._stream(request, body, wanted, head, _delta)
        return await self._whole(request, wanted, head, _message)

    async def complete(self, request: Request) -> Answer:
        body = supported(await self._bodies.read(request, BODY), CompletionRequest)
        wanted = Wanted(self._caller.ref(body.model), "generate", _prompts(body.prompt), body.params())
        head = _head("cmpl", "text_completion", wanted.model)
        if not body.stream:
            return await self._whole(request, wanted, head, _text)
        if len(wanted.inputs) != 1:
            raise BadInput("Several prompts cannot be streamed at once. Send one, or leave out `stream`", key="prompt")
        return await self._stream(request, body, wanted, head, _text)

    async def _whole(self, request: Request, wanted: Wanted, head: Completion, choice: Choice) -> Answer:
        chunk = await self._caller.whole(wanted, request.receive)
        head.choices = [choice(index, output) for index, output in enumerate(chunk.outputs)]
        head.usage = _usage(chunk.tokens)
        return reply(head)

    async def _stream(
        self, request: Request, body: Sampled, wanted: Wanted, head: Completion, choice: Choice
    ) -> Answer:
        chunks = await self._caller.streamed(wanted, request.receive)
        if head.object == "chat.completion":
            head.object = "chat.completion.chunk"
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return EventStream(_events(chunks, head, choice, with_usage=with_usage))


Choice = Callable[[int, Json], dict[str, Json]]


async def _events(
    chunks: AsyncGenerator[Chunk, None], head: Completion, choice: Choice, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    tokens = Tokens()
    try:
        async for chunk in chunks:
            if chunk.outputs:
                head.choices = [choice(index, output) for index, output in enumerate(chunk.outputs)]
                yield event(head)
            tokens = chunk.tokens
    except LlmosError as error:  # the status is long sent: the clients raise what such an event says
        yield event(shape_of(error))
        return
    if with_usage:
        head.choices, head.usage = [], _usage(tokens)
        yield event(head)
    yield DONE


def _head(prefix: str, kind: str, model: str) -> Completion:
    return Completion(f"{prefix}-{os.urandom(12).hex()}", kind, int(time.time()), model, [])


def _message(index: int, output: Json) -> dict[str, Json]:
    return {"index": index, "message": output["message"], "finish_reason": output["finish_reason"], "logprobs": None}


def _delta(index: int, output: Json) -> dict[str, Json]:
    return {"index": index, "delta": output["message"], "finish_reason": output["finish_reason"], "logprobs": None}


def _text(index: int, output: Json) -> dict[str, Json]:
    return {"index": index, "text": output["text"], "finish_reason": output["finish_reason"], "logprobs": None}


def _usage(tokens: Tokens) -> Usage:
    return Usage(tokens.prompt, tokens.completion, tokens.prompt + tokens.completion)


def _prompts(prompt: str | list[Json]) -> list[Json]:
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not prompts or not all(isinstance(one, str) for one in prompts):
        raise BadInput("prompt must be a string or a list of strings; token ids are not supported yet", key="prompt")
    return prompts
