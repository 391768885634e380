"""Anthropic's Messages: /v1/messages, whole or in its stream of events, and /v1/messages/count_tokens."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.call import Chunk, Tokens
from llmos.abi.error import Fault
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.api.endpoint import Endpoint, Media, Reply, reply
from llmos.api.errors import ErrorShape
from llmos.api.openai_unsupported import parse_supported
from llmos.api.shapes.anthropic_request import UNSUPPORTED, Conversation, MessagesRequest, chat_of
from llmos.api.shapes.chat import chat_call, chat_tokens
from llmos.api.shapes.services import Services
from llmos.api.stream import EVENTS, ServerSentEvents, event, fault

BODY = msgspec.json.Decoder(dict[str, Any])
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class MessageUsage(msgspec.Struct):
    """Tokens of the conversation and of the answer."""

    input_tokens: int
    output_tokens: int


class Message(msgspec.Struct):
    """An answer: blocks of text and of calls."""

    id: str
    model: str
    content: list[dict[str, Json]]
    usage: MessageUsage
    stop_reason: str | None = None
    stop_sequence: str | None = None
    type: str = "message"
    role: str = "assistant"


class TokenCount(msgspec.Struct):
    """The tokens of a conversation, with what the chat template adds."""

    input_tokens: int


class AnthropicRefusal(msgspec.Struct):
    """Anthropic's shape of an error, with our `code` and `detail` beside its type."""

    error: dict[str, Json]
    type: str = "error"


def _refusal(fault: Fault, status: int) -> AnthropicRefusal:
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    return AnthropicRefusal({"type": kind, "message": fault.message, "code": fault.code, "detail": fault.detail})


ERRORS = ErrorShape(_refusal, AnthropicRefusal)


class Anthropic:
    """The routes of messages."""

    def __init__(self, services: Services) -> None:
        self._calls, self._bodies = services.calls, services.bodies

    def endpoints(self) -> list[Endpoint]:
        streamed = (Media(EVENTS, dict[str, Any]),)
        return [
            Endpoint(
                "POST",
                "/v1/messages",
                self.answer,
                "Chat, in Anthropic's shape",
                MessagesRequest,
                Message,
                also=streamed,
                errors=ERRORS,
                scope=KeyScope.INFER,
            ),
            Endpoint(
                "POST",
                "/v1/messages/count_tokens",
                self.count,
                "Count the tokens of a chat, in Anthropic's shape",
                Conversation,
                TokenCount,
                errors=ERRORS,
                scope=KeyScope.INFER,
            ),
        ]

    async def count(self, request: Request) -> Reply:
        """The tokens that a message of this body would read, by the model's own tokenizer and template."""
        body = parse_supported(await self._bodies.read(request, BODY), Conversation, UNSUPPORTED)
        chat, naming = chat_of(body)
        chunk = await chat_tokens(self._calls, chat, naming, request)
        return reply(TokenCount(len(chunk.outputs[0]["ids"])))

    async def answer(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), MessagesRequest, UNSUPPORTED)
        chat, naming = chat_of(
            body,
            max_tokens=body.max_tokens,
            stop=body.stop_sequences,
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
        )
        call = chat_call(self._calls, chat, naming)
        made: Reply
        if body.stream:
            made = ServerSentEvents(_events(await call.stream(request), call.model))
        else:
            made = reply(_message(await call.whole(request), call.model))
        made.raw_headers += call.headers
        return made


def _message(chunk: Chunk, model: str) -> Message:
    output = chunk.outputs[0]
    said = output["message"]
    text = [{"type": "text", "text": said["content"]}] if said.get("content") else []
    calls = [
        {**_tool_use(one), "input": msgspec.json.decode(one["function"]["arguments"])}
        for one in said.get("tool_calls") or ()
    ]
    reason, stop = _ending(output)
    return Message(_message_id(), model, [*text, *calls], _usage(chunk.tokens), reason, stop)


async def _events(chunks: AsyncGenerator[Chunk, None], model: str) -> AsyncGenerator[bytes, None]:
    """The events of a message; the tokens are known at its end, and are said there."""
    blocks, tokens, reason, stop = Blocks(), Tokens(), None, None
    yield _event("message_start", message=Message(_message_id(), model, [], MessageUsage(0, 0)))
    try:
        async for chunk in chunks:
            tokens = chunk.tokens
            for piece in chunk.outputs:
                for one in blocks.of(piece["message"]):
                    yield one
                if piece["finish_reason"]:
                    reason, stop = _ending(piece)
    except Exception as error:  # noqa: BLE001  # the top of a stream
        yield fault(error, name="error", shape=ERRORS)
        return
    for one in blocks.end():
        yield one
    yield _event("message_delta", delta={"stop_reason": reason, "stop_sequence": stop}, usage=_usage(tokens))
    yield _event("message_stop")


class Blocks:
    """The blocks of a streamed message: each is begun, grows and ends before the next; a call comes whole."""

    def __init__(self) -> None:
        self._count = 0
        self._is_open = False

    def of(self, message: Json) -> Iterator[bytes]:
        """The events for the newest piece of the message."""
        if text := message.get("content"):
            if not self._is_open:
                self._is_open = True
                yield self._start({"type": "text", "text": ""})
            yield self._grow({"type": "text_delta", "text": text})
        for call in message.get("tool_calls") or ():
            yield from self.end()
            yield self._start({**_tool_use(call), "input": {}})
            yield self._grow({"type": "input_json_delta", "partial_json": call["function"]["arguments"]})
            yield self._stop()

    def end(self) -> Iterator[bytes]:
        """The end of the block of text, if one is begun."""
        if self._is_open:
            self._is_open = False
            yield self._stop()

    def _start(self, block: Json) -> bytes:
        return _event("content_block_start", index=self._count, content_block=block)

    def _grow(self, delta: Json) -> bytes:
        return _event("content_block_delta", index=self._count, delta=delta)

    def _stop(self) -> bytes:
        self._count += 1
        return _event("content_block_stop", index=self._count - 1)


def _event(kind: str, **fields: Json) -> bytes:
    return event({"type": kind, **fields}, name=kind)


def _tool_use(call: Json) -> dict[str, Json]:
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"]}


def _ending(output: Json) -> tuple[str, str | None]:
    """The reason and the stop text; only `stop` texts of the request are named."""
    stop = output.get("stop")
    return ("stop_sequence", stop) if stop is not None else (REASONS[output["finish_reason"]], None)


def _usage(tokens: Tokens) -> MessageUsage:
    return MessageUsage(tokens.prompt, tokens.completion)


def _message_id() -> str:
    return f"msg_{os.urandom(12).hex()}"


SHAPE = Anthropic
