"""What chat and completions may be asked in OpenAI's shape, and the params of ours that it means."""

from __future__ import annotations

from typing import Any

import msgspec

from llmos.abi.error import BadInput
from llmos.api.caller import Addressed
from llmos.tasks.grammar import ANY_OBJECT, JSON_SCHEMA

Json = Any  # Any: a JSON value in OpenAI's shape, or the task's


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`include_usage` adds one more event, with the tokens."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Sampled(Addressed, forbid_unknown_fields=True, kw_only=True):
    """What chat and plain completions share.

    Ours beside: `top_k`, `min_p`, `repetition_penalty`, the rules `json_schema`, `regex` and `grammar`, and what every
    call may say: `timeout_s`, `class`, `engine`.
    """

    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    n: int | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    json_schema: dict[str, Json] | None = None
    regex: str | None = None
    grammar: str | None = None

    def params(self) -> dict[str, Json]:
        """The task's params: those that were given."""
        return given({key: getattr(self, key) for key in SAMPLING})


BESIDE = {*Addressed.__struct_fields__, "stream", "stream_options", "user"}  # what is no param of a task
SAMPLING = tuple(field for field in Sampled.__struct_fields__ if field not in BESIDE)


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True):
    """`text`, `json_object`, or `json_schema` with the schema."""

    type: str
    json_schema: NamedSchema | None = None

    def params(self) -> dict[str, Json]:
        """The rule that it means, as a param."""
        if self.type == "text":
            return {}
        if self.type == "json_object":
            return {JSON_SCHEMA: ANY_OBJECT}
        if self.type != JSON_SCHEMA:
            said = "it is text, json_object or json_schema"
            raise BadInput(f"response_format.type is {self.type!r}; {said}", key="response_format")
        if self.json_schema is None or self.json_schema.schema is None:
            said = '{"type": "json_schema", "json_schema": {"name": "...", "schema": {...}}}'
            raise BadInput(f"response_format has no schema. Send {said}", key="response_format")
        return {JSON_SCHEMA: self.json_schema.schema}


class NamedSchema(msgspec.Struct, forbid_unknown_fields=True):
    """A schema as OpenAI wraps it. It is always kept to, so `strict` changes nothing; name and description neither."""

    schema: dict[str, Json] | None = None
    name: str = ""
    description: str | None = None
    strict: bool | None = None


class ChatRequest(Sampled, kw_only=True, forbid_unknown_fields=True):
    """`max_completion_tokens` is the newer name of `max_tokens`."""

    messages: list[dict[str, Json]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Json]] | None = None
    tool_choice: str | dict[str, Json] | None = None
    parallel_tool_calls: bool | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is None:
            self.max_tokens = self.max_completion_tokens

    def input(self) -> Json:
        """The conversation, and what it may call."""
        return {"messages": self.messages, **given({key: getattr(self, key) for key in TOOLS})}

    def params(self) -> dict[str, Json]:
        said = Sampled.params(self) | given({"logprobs": self.logprobs, "top_logprobs": self.top_logprobs})
        rule = {} if self.response_format is None else self.response_format.params()
        if twice := rule.keys() & said.keys():
            both = f"response_format and {min(twice)}"
            raise BadInput(f"The body has both {both}. Send one of them", key="response_format")
        return said | rule


TOOLS = ("tools", "tool_choice", "parallel_tool_calls")


class CompletionRequest(Sampled, kw_only=True, forbid_unknown_fields=True):
    """Text that continues a prompt, or one for each of several. `logprobs` is how many of the likeliest to tell."""

    prompt: str | list[Json]
    logprobs: int | bool | None = None

    def params(self) -> dict[str, Json]:
        if self.logprobs is None or self.logprobs is False:
            return Sampled.params(self)
        return Sampled.params(self) | {"logprobs": True, "top_logprobs": int(self.logprobs)}


def given(said: dict[str, Json]) -> dict[str, Json]:
    """Those that have a value."""
    return {key: value for key, value in said.items() if value is not None}
