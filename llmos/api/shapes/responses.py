"""OpenAI's /v1/responses: a chat whose answer is a list of items, whole or in its stream of events. Nothing is kept."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.call import Chunk, Tokens
from llmos.abi.error import fault_of
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.api.endpoint import Endpoint, Media, Reply, reply
from llmos.api.shapes.chat import chat_call
from llmos.api.shapes.responses_request import ResponseRequest, parse_request
from llmos.api.shapes.services import Services
from llmos.api.stream import EVENTS, ServerSentEvents, event, fault_body

BODY = msgspec.json.Decoder(dict[str, Any])


class ResponseReply(msgspec.Struct):
    """An answer: items of text and of calls. `store` is false: it cannot be asked for again."""

    id: str
    created_at: int
    model: str
    status: str
    output: list[dict[str, Json]]
    tools: list[dict[str, Json]]
    tool_choice: str | dict[str, Json]
    parallel_tool_calls: bool
    instructions: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    incomplete_details: dict[str, Json] | None = None
    usage: dict[str, Json] | None = None
    error: dict[str, Json] | None = None
    previous_response_id: str | None = None
    store: bool = False
    object: str = "response"


class Responses:
    """The route of responses."""

    def __init__(self, services: Services) -> None:
        self._calls, self._bodies = services.calls, services.bodies

    def endpoints(self) -> list[Endpoint]:
        doc, also = "Chat, in the shape of OpenAI's Responses", (Media(EVENTS, dict[str, Any]),)
        infer = KeyScope.INFER
        return [
            Endpoint(
                "POST", "/v1/responses", self.respond, doc, ResponseRequest, ResponseReply, also=also, scope=infer
            ),
        ]

    async def respond(self, request: Request) -> Reply:
        body = parse_request(await self._bodies.read(request, BODY))
        chat, naming = body.chat()
        call = chat_call(self._calls, chat, naming)
        head = _head(body, call.model)
        made: Reply
        if body.stream:
            made = ServerSentEvents(ResponseEvents(head).of(await call.stream(request)))
        else:
            chunk = await call.whole(request)
            output = chunk.outputs[0]
            said = output["message"]
            if said.get("content"):
                head.output.append(_message(_id("msg"), said["content"], output.get("logprobs")))
            head.output += [_call(_id("fc"), one) for one in said.get("tool_calls") or ()]
            made = reply(_finish(head, output["finish_reason"], chunk.tokens))
        made.raw_headers += call.headers
        return made


class ResponseEvents:
    """The events of one answer: its items in order, each begun, grown and ended; then the whole answer."""

    def __init__(self, head: ResponseReply) -> None:
        self._head = head
        self._number = 0
        self._text_id = ""  # of the message that is being said
        self._text = ""
        self._logprobs: list[Json] = []

    async def of(self, chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[bytes, None]:
        """The events for these chunks; an error is the last."""
        tokens, reason = Tokens(), "stop"
        yield self._event("response.created", response=self._head)
        yield self._event("response.in_progress", response=self._head)
        try:
            async for chunk in chunks:
                tokens = chunk.tokens
                for piece in chunk.outputs:
                    for one in self._grow(piece):
                        yield one
                    reason = piece["finish_reason"] or reason
        except Exception as error:  # noqa: BLE001  # the top of a stream; the clients raise what such an event says
            said = fault_of(error)
            fields = {"code": said.code, "message": said.message, "param": said.detail.get("key")}
            yield self._event("error", **fields, error=msgspec.to_builtins(fault_body(error))["error"])
            return
        for one in self._end_text():
            yield one
        ended = _finish(self._head, reason, tokens)
        yield self._event(f"response.{ended.status}", response=ended)

    def _grow(self, piece: Json) -> Iterator[bytes]:
        message = piece["message"]
        text, scored = message.get("content") or "", piece.get("logprobs") or []
        if text or scored:
            if not self._text_id:
                yield from self._begin_text()
            self._text += text
            self._logprobs += scored
            yield self._event("response.output_text.delta", **self._place(), delta=text, logprobs=scored)
        for call in message.get("tool_calls") or ():
            yield from self._end_text()
            yield from self._call(call)

    def _begin_text(self) -> Iterator[bytes]:
        self._text_id = _id("msg")
        item = {**_message(self._text_id, ""), "content": [], "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=self._index, item=item)
        yield self._event("response.content_part.added", **self._place(), part=_part(""))

    def _end_text(self) -> Iterator[bytes]:
        if not self._text_id:
            return
        item = _message(self._text_id, self._text, self._logprobs or None)
        yield self._event("response.output_text.done", **self._place(), text=self._text, logprobs=self._logprobs)
        yield self._event("response.content_part.done", **self._place(), part=item["content"][0])
        yield self._event("response.output_item.done", output_index=self._index, item=item)
        self._head.output.append(item)
        self._text_id, self._text, self._logprobs = "", "", []

    def _call(self, call: Json) -> Iterator[bytes]:
        """A call comes whole."""
        item = _call(_id("fc"), call)
        place = {"output_index": self._index, "item_id": item["id"]}
        begun = {**item, "arguments": "", "status": "in_progress"}
        arguments = item["arguments"]
        yield self._event("response.output_item.added", output_index=self._index, item=begun)
        yield self._event("response.function_call_arguments.delta", **place, delta=arguments)
        yield self._event("response.function_call_arguments.done", **place, arguments=arguments, name=item["name"])
        yield self._event("response.output_item.done", output_index=self._index, item=item)
        self._head.output.append(item)

    @property
    def _index(self) -> int:
        return len(self._head.output)

    def _place(self) -> dict[str, Json]:
        return {"item_id": self._text_id, "output_index": self._index, "content_index": 0}

    def _event(self, kind: str, **fields: Json) -> bytes:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number - 1, **fields}, name=kind)


def _head(body: ResponseRequest, model: str) -> ResponseReply:
    return ResponseReply(
        _id("resp"),
        int(time.time()),
        model,
        "in_progress",
        [],
        body.tools or [],
        body.tool_choice or "auto",
        body.parallel_tool_calls is not False,
        body.instructions,
        body.temperature,
        body.top_p,
        body.max_output_tokens,
    )


def _finish(head: ResponseReply, reason: str, tokens: Tokens) -> ResponseReply:
    is_cut = reason == "length"
    head.status = "incomplete" if is_cut else "completed"
    head.incomplete_details = {"reason": "max_output_tokens"} if is_cut else None
    head.usage = {
        "input_tokens": tokens.prompt,
        "output_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "output_tokens_details": {"reasoning_tokens": 0},  # there is no reasoning apart from the answer
    }
    return head


def _message(item_id: str, text: str, logprobs: list[Json] | None = None) -> dict[str, Json]:
    content = [_part(text, logprobs)]
    return {"id": item_id, "type": "message", "role": "assistant", "status": "completed", "content": content}


def _part(text: str, logprobs: list[Json] | None = None) -> dict[str, Json]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def _call(item_id: str, call: Json) -> dict[str, Json]:
    function = call["function"]
    said = {"call_id": call["id"], "name": function["name"], "arguments": function["arguments"]}
    return {"id": item_id, "type": "function_call", "status": "completed", **said}


def _id(prefix: str) -> str:
    return f"{prefix}_{os.urandom(12).hex()}"


SHAPE = Responses
