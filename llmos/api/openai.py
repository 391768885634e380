"""/v1/chat/completions and /v1/completions: chat and generate in OpenAI's shape, so that its clients work unchanged."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.call import Chunk, Tokens
from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.api.call_service import CallApi, Field, Wanted
from llmos.api.chunks import ChatChoices, Choices, TextChoices, chat_logprobs, text_choice
from llmos.api.endpoint import Bodies, Endpoint, Media, Reply, reply
from llmos.api.openai_schemas import ChatRequest, CompletionRequest, Sampled, StreamOptions
from llmos.api.openai_unsupported import COMPLETIONS, parse_supported
from llmos.api.rules import Rule, headers_of, naming_rule, rename_key
from llmos.api.stream import DONE, EVENTS, ServerSentEvents, event, fault
from llmos.api.texts import texts_of
from llmos.tasks.schema import Enforced
from llmos.tasks.token_ids import are_ids

MESSAGES = Field("messages", is_openai=True)
LAST = f"data: {DONE}\n\n".encode()
BODY = msgspec.json.Decoder(dict[str, Any])


class TokenUsage(msgspec.Struct):
    """Tokens of the prompts and of the answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(msgspec.Struct):
    """An answer. In a stream, each of `choices` has a `delta` (chat) or the next `text`."""

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Json]]
    usage: TokenUsage | msgspec.UnsetType | None = msgspec.UNSET  # in a stream only on request


STREAMED = (Media(EVENTS, Completion, ended=True),)


@dataclass(frozen=True, slots=True)
class OpenAICall:
    """The call in a body: inputs, params, the answer's rule, and the parts of its schemas that are not enforced."""

    body: Sampled
    inputs: list[Json]
    params: dict[str, Json]
    rule: Rule | None
    left_out: dict[str, Enforced]
    is_list: bool = False


def _asked_chat(given: dict[str, Json]) -> OpenAICall:
    body = parse_supported(given, ChatRequest)
    rule = body.rule()
    return OpenAICall(body, [body.input()], body.params(rule), rule, body.left_out(rule))


def _asked_completion(given: dict[str, Json]) -> OpenAICall:
    body = parse_supported(given, CompletionRequest, COMPLETIONS)
    rule, prompts = body.rule(), _prompts(body.prompt)
    is_list = isinstance(body.prompt, list) and not are_ids(body.prompt)
    return OpenAICall(body, prompts, body.params(rule), rule, body.left_out(rule), is_list)


class OpenAI:
    """The routes of chat and completions."""

    def __init__(self, caller: CallApi, bodies: Bodies) -> None:
        self._caller = caller
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        chat, plain = "/v1/chat/completions", "/v1/completions"
        return [
            Endpoint(
                "POST",
                chat,
                self.chat,
                "Chat, in OpenAI's shape",
                ChatRequest,
                Completion,
                also=STREAMED,
                scope=KeyScope.INFER,
            ),
            Endpoint(
                "POST",
                plain,
                self.complete,
                "Continue a prompt",
                CompletionRequest,
                Completion,
                also=STREAMED,
                scope=KeyScope.INFER,
            ),
        ]

    async def chat(self, request: Request) -> Reply:
        asked = await self._bodies.read_as(request, BODY, _asked_chat)
        wanted = self._caller.call_for(asked.body, "chat", asked.inputs, asked.params, MESSAGES)
        head = _head("chatcmpl", "chat.completion", wanted.model)
        return await self._answer(request, asked, wanted, head, is_chat=True)

    async def complete(self, request: Request) -> Reply:
        asked = await self._bodies.read_as(request, BODY, _asked_completion)
        field = Field("prompt", asked.is_list, is_openai=True)
        wanted = self._caller.call_for(asked.body, "generate", asked.inputs, asked.params, field)
        head = _head("cmpl", "text_completion", wanted.model)
        return await self._answer(request, asked, wanted, head, is_chat=False)

    async def _answer(
        self, request: Request, asked: OpenAICall, wanted: Wanted, head: Completion, *, is_chat: bool
    ) -> Reply:
        with naming_rule(asked.rule):
            if asked.body.stream:
                return await self._stream(request, asked, wanted, head, ChatChoices() if is_chat else TextChoices())
            return await self._whole(request, asked, wanted, head, _message if is_chat else _text)

    async def _whole(
        self, request: Request, asked: OpenAICall, wanted: Wanted, head: Completion, choice: Choice
    ) -> Reply:
        headers = headers_of(asked.left_out, wanted.model)
        chunk = await self._caller.whole(wanted, request)
        head.choices = [choice(index, output) for index, output in enumerate(chunk.outputs)]
        head.usage = _usage(chunk.tokens)
        answer = reply(head)
        answer.raw_headers += headers
        return answer

    async def _stream(
        self, request: Request, asked: OpenAICall, wanted: Wanted, head: Completion, choices: Choices
    ) -> Reply:
        headers = headers_of(asked.left_out, wanted.model)
        chunks = await self._caller.stream_chunks(wanted, request)
        if head.object == "chat.completion":
            head.object = "chat.completion.chunk"
        events = _events(chunks, head, choices, asked.body.stream_options or StreamOptions(), asked.rule)
        answer = ServerSentEvents(events)
        answer.raw_headers += headers
        return answer


async def _events(
    chunks: AsyncGenerator[Chunk, None], head: Completion, choices: Choices, options: StreamOptions, rule: Rule | None
) -> AsyncGenerator[bytes, None]:
    """One event per choice; the usage comes last if it is requested."""
    tokens = Tokens()
    if options.include_usage:
        head.usage = None
    try:
        async for chunk in chunks:
            tokens = chunk.tokens
            for choice in (one for piece in chunk.outputs for one in choices.of(piece)):
                head.choices = [choice]
                yield event(head)
    except Exception as error:  # noqa: BLE001  # the top of a stream; the clients raise what such an event says
        yield fault(rename_key(error, rule) if isinstance(error, LlmosError) else error)
        return
    if options.include_usage:
        head.choices, head.usage = [], _usage(tokens)
        yield event(head)
    yield LAST


def _head(prefix: str, kind: str, model: str) -> Completion:
    return Completion(f"{prefix}-{os.urandom(12).hex()}", kind, int(time.time()), model, [])


Choice = Callable[[int, Json], Json]


def _message(index: int, output: Json) -> Json:
    logprobs = chat_logprobs(output.get("logprobs"))
    reason = output["finish_reason"]
    return {"index": index, "message": output["message"], "logprobs": logprobs, "finish_reason": reason}


def _text(index: int, output: Json) -> Json:
    return text_choice(index, output["text"], output.get("logprobs"), reason=output["finish_reason"])


def _usage(tokens: Tokens) -> TokenUsage:
    return TokenUsage(tokens.prompt, tokens.completion, tokens.prompt + tokens.completion)


def _prompts(prompt: str | list[Json]) -> list[Json]:
    """The prompts of a body: one text or its tokens' ids, or a list of such."""
    prompts = [prompt] if isinstance(prompt, str) or are_ids(prompt) else prompt
    if not prompts:
        raise BadInput("prompt is an empty list. Send at least one text", key="prompt", reason="empty")
    texts_of(["" if are_ids(one) else one for one in prompts], "prompt")
    return [{"prompt": one} if are_ids(one) else one for one in prompts]
