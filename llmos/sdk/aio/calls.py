"""Calls of models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import overload

from llmos.abi.json_type import Json
from llmos.abi.process import Priority
from llmos.sdk import request
from llmos.sdk.aio.connection import AsyncDaemonConnection
from llmos.sdk.result import Result


class AsyncCallsClient(AsyncDaemonConnection):
    """Calls of models."""

    @overload
    async def run(
        self,
        model: str,
        inputs: str | Mapping[str, Json],
        *,
        task: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> Result: ...

    @overload
    async def run(
        self,
        model: str,
        inputs: Sequence[Json],
        *,
        task: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> list[Result]: ...

    async def run(
        self,
        model: str,
        inputs: str | Mapping[str, Json] | Sequence[Json],
        *,
        task: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> Result | list[Result]:
        """Call a model: one input gives one result, a list gives a list. `task` and `engine` default to the model's
        own.

        With `n` (generate and chat) a list gives n results for each of its inputs, in order. The answer comes within
        `timeout_s` or fails. `priority` is interactive, batch or background.
        """
        given, is_one = request.inputs_of(inputs)
        options = request.call_options(timeout_s, priority, engine, params)
        said = request.one_answer(params) if is_one else params
        results = await self._ask(request.run(task or None, model, given, said, options))
        return results[0] if is_one else results

    async def chat(
        self,
        model: str,
        messages: str | Sequence[Mapping[str, Json]],
        *,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> AsyncIterator[str]:
        """The next message of a conversation, in pieces as it is generated."""
        body = request.chat_body(model, messages, params, request.call_options(timeout_s, priority, engine, params))
        async for _, data in self._events("POST", "/v1/tasks/chat", body):
            for output in data["outputs"]:
                yield output["message"].get("content") or ""

    async def generate(
        self,
        model: str,
        prompt: str,
        *,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> AsyncIterator[str]:
        """Text that continues a prompt, in pieces as it is generated."""
        body = request.generate_body(model, prompt, params, request.call_options(timeout_s, priority, engine, params))
        async for _, data in self._events("POST", "/v1/tasks/generate", body):
            for output in data["outputs"]:
                yield output["text"]
