"""A chat of another product as one of OpenAI's shape, with errors that name the fields of the request itself."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

from llmos.abi.call import Chunk, Operation
from llmos.abi.error import LlmosError
from llmos.abi.json_type import Json
from llmos.api.call_service import CallApi, Field, without_unset
from llmos.api.openai_schemas import ChatRequest, CompletionRequest, Sampled
from llmos.api.rules import headers_of, naming_rule
from llmos.tasks.inputs import PARSE_SPECIAL

CHAT, GENERATE = "chat", "generate"
FIELDS = {CHAT: Field("messages"), GENERATE: Field("prompt")}
MESSAGE = re.compile(r"messages\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Naming:
    """The names that a request has for OpenAI's: `fields` by OpenAI's name, `messages` by their index there."""

    fields: Mapping[str, str] = field(default_factory=dict)
    messages: Sequence[str] = ()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Inside this block, errors name the fields of the request."""
        try:
            yield
        except LlmosError as error:
            raise self.of(error) from error

    def of(self, error: LlmosError) -> LlmosError:
        """The error with the names of the request."""
        key = error.detail.get("key")
        if not isinstance(key, str):
            return error
        name, message = self._own(key), error.message
        root = re.split(r"[.\[]", key)[0]
        if root in self.fields:
            message = message.replace(root, self.fields[root], 1)
        return type(error)(MESSAGE.sub(self._message, message), **{**error.detail, "key": name})

    def _own(self, key: str) -> str:
        root = re.split(r"[.\[]", key)[0]
        named = self.fields.get(root, root) + key[len(root) :]
        return MESSAGE.sub(self._message, named)

    def _message(self, found: re.Match[str]) -> str:
        index = int(found[1])
        return self.messages[index] if index < len(self.messages) else found[0]


class ShapedCall:
    """One chat or prompt that was asked in another shape.

    `headers` name what of its schemas is not enforced.
    """

    def __init__(self, calls: CallApi, asked: Sampled, naming: Naming, task: str, given: Json) -> None:
        self._calls, self._naming = calls, naming
        with naming.errors():
            self._rule = asked.rule()
            left_out, params = asked.left_out(self._rule), asked.params(self._rule)
            self.wanted = calls.call_for(asked, task, [given], params, FIELDS[task])
            self.headers = headers_of(left_out, self.wanted.model)

    @property
    def model(self) -> str:
        return self.wanted.model

    async def whole(self, request: Request) -> Chunk:
        """The whole answer."""
        with self._naming.errors(), naming_rule(self._rule):
            return await self._calls.whole(self.wanted, request)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The answer in chunks; what is wrong with the call is raised before the first."""
        with self._naming.errors(), naming_rule(self._rule):
            return await self._calls.stream_chunks(self.wanted, request)


def chat_call(calls: CallApi, asked: ChatRequest, naming: Naming) -> ShapedCall:
    """The call of a chat."""
    with naming.errors():
        return ShapedCall(calls, asked, naming, CHAT, asked.input())


async def chat_tokens(calls: CallApi, asked: ChatRequest, naming: Naming, request: Request, **more: Json) -> Chunk:
    """The tokens of a chat's prompt, without an answer: `ids`, and with `strings` their names."""
    with naming.errors():
        template = without_unset(
            {"chat_template_kwargs": asked.chat_template_kwargs, PARSE_SPECIAL: asked.parse_special}
        )
        params = {**template, **more}
        wanted = calls.tokens_for(asked, Operation.RENDER, [asked.input()], params, FIELDS[CHAT], CHAT)
        return await calls.whole(wanted, request)


def prompt_call(calls: CallApi, asked: CompletionRequest, naming: Naming) -> ShapedCall:
    """The call of a prompt that an answer continues."""
    return ShapedCall(calls, asked, naming, GENERATE, asked.prompt)
