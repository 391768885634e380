"""/v1/chat/completions and /v1/completions: chat and generate in OpenAI's shape, so that its clients work unchanged."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable
from itertools import accumulate
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.call import Chunk, Tokens
from llmos.abi.error import BadInput, LlmosError
from llmos.api.asked import ChatRequest, CompletionRequest, Sampled
from llmos.api.caller import Caller, Wanted
from llmos.api.endpoint import Answer, Bodies, Endpoint, reply
from llmos.api.errors import shape_of
from llmos.api.params import supported
from llmos.api.rules import headers_of, named
from llmos.api.stream import EventStream, event

Json = Any  # Any: a JSON value in OpenAI's shape, or the task's

DONE = b"data: [DONE]\n\n"
BODY = msgspec.json.Decoder(dict[str, Any])


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
        wanted = self._caller.wanted(body, "chat", [body.input()], body.params())
        head = _head("chatcmpl", "chat.completion", wanted.model)
        with named(body.rule()):
            if body.stream:
                return await self._stream(request, body, wanted, head, _delta)
            return await self._whole(request, body, wanted, head, _message)

    async def complete(self, request: Request) -> Answer:
        body = supported(await self._bodies.read(request, BODY), CompletionRequest)
        wanted = self._caller.wanted(body, "generate", _prompts(body.prompt), body.params())
        head = _head("cmpl", "text_completion", wanted.model)
        with named(body.rule()):
            if body.stream:
                return await self._stream(request, body, wanted, head, Texts())
            return await self._whole(request, body, wanted, head, Texts())

    async def _whole(self, request: Request, body: Sampled, wanted: Wanted, head: Completion, choice: Choice) -> Answer:
        headers = headers_of(body.left_out(), wanted.model)
        chunk = await self._caller.whole(wanted, request.receive)
        head.choices = [choice(index, output) for index, output in enumerate(chunk.outputs)]
        head.usage = _usage(chunk.tokens)
        answer = reply(head)
        answer.headers.update(headers)
        return answer

    async def _stream(
        self, request: Request, body: Sampled, wanted: Wanted, head: Completion, choice: Choice
    ) -> Answer:
        headers = headers_of(body.left_out(), wanted.model)
        chunks = await self._caller.streamed(wanted, request.receive)
        if head.object == "chat.completion":
            head.object = "chat.completion.chunk"
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        answer = EventStream(_events(chunks, head, choice, with_usage=with_usage))
        answer.headers.update(headers)
        return answer


Choice = Callable[[int, Json], dict[str, Json]]


async def _events(
    chunks: AsyncGenerator[Chunk, None], head: Completion, choice: Choice, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    tokens = Tokens()
    try:
        async for chunk in chunks:
            head.choices = [choice(output.get("index", 0), output) for output in chunk.outputs if _tells(output)]
            if head.choices:
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


def _tells(output: Json) -> bool:
    """Whether a piece is worth an event; one that may become a call has no text yet."""
    message = output.get("message", output)
    says = message.get("content") or message.get("text") or message.get("tool_calls")
    return bool(says or output["finish_reason"] or output.get("logprobs"))


def _message(index: int, output: Json) -> dict[str, Json]:
    return {"index": index, "message": output["message"], **_ending(output)}


def _delta(index: int, output: Json) -> dict[str, Json]:
    return {"index": index, "delta": output["message"], **_ending(output)}


def _ending(output: Json) -> dict[str, Json]:
    scored = output.get("logprobs")
    logprobs = None if scored is None else {"content": scored, "refusal": None}
    return {"finish_reason": output["finish_reason"], "logprobs": logprobs}


class Texts:
    """Choices of plain completions. They remember how much of each answer's text was given out."""

    def __init__(self) -> None:
        self._given: dict[int, int] = {}

    def __call__(self, index: int, output: Json) -> dict[str, Json]:
        start = self._given.get(index, 0)
        self._given[index] = start + len(output["text"])
        logprobs = _columns(output["logprobs"], start) if "logprobs" in output else None
        return {"index": index, "text": output["text"], "finish_reason": output["finish_reason"], "logprobs": logprobs}


def _columns(scored: list[Json], start: int) -> dict[str, Json]:
    """Entries of logprobs as plain completions have them: a column each, and where in the text each token begins."""
    ends = accumulate((len(one["token"]) for one in scored), initial=start)
    return {
        "tokens": [one["token"] for one in scored],
        "token_logprobs": [one["logprob"] for one in scored],
        "top_logprobs": [{top["token"]: top["logprob"] for top in one["top_logprobs"]} for one in scored],
        "text_offset": list(ends)[:-1],
    }


def _usage(tokens: Tokens) -> Usage:
    return Usage(tokens.prompt, tokens.completion, tokens.prompt + tokens.completion)


def _prompts(prompt: str | list[Json]) -> list[Json]:
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not prompts or not all(isinstance(one, str) for one in prompts):
        raise BadInput("prompt must be a string or a list of strings; token ids are not supported yet", key="prompt")
    return prompts
