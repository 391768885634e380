"""Request schemas of OpenAI's chat and completions routes."""

from __future__ import annotations

import msgspec

from llmos.abi.json_type import Json
from llmos.api.call_service import without_unset
from llmos.api.rules import Rule, Ruled, rule_of
from llmos.tasks import tools
from llmos.tasks.generate import MAX_TOKENS
from llmos.tasks.schema import Enforced

NO_LIMIT = -1  # as `max_tokens`: as many as fit


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`include_usage` adds one more event with the usage; the other option is ignored."""

    include_usage: bool | None = False
    include_obfuscation: bool | None = False


class Sampled(Ruled, forbid_unknown_fields=True, kw_only=True):
    """The fields common to chat and completions.

    Our own are `top_k`, `min_p`, `repetition_penalty`, `parse_special`, the rules `json_schema`, `regex` and `grammar`,
    and the fields of every call: `timeout_s`, `priority` (earlier name: `class`) and `engine`.
    """

    stream: bool | None = False
    stream_options: StreamOptions | None = None
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
    parse_special: bool | None = None

    def rule(self) -> Rule | None:
        """The rule of the answer; BadInput if there are two."""
        return rule_of(self)

    def left_out(self, rule: Rule | None) -> dict[str, Enforced]:
        """The parts of the body's schemas that cannot be enforced, by path. `rule` is the body's own rule."""
        return {} if rule is None else rule.left_out

    def params(self, rule: Rule | None) -> dict[str, Json]:
        """The task's params that were given. `rule` is the body's own rule."""
        said = without_unset({key: getattr(self, key) for key in SAMPLING})
        if self.max_tokens == NO_LIMIT:
            said["max_tokens"] = MAX_TOKENS
        return said if rule is None else said | {rule.name: rule.value}


# Fields that are not params of a task.
BESIDE = {*Ruled.__struct_fields__, "stream", "stream_options"}
SAMPLING = tuple(field for field in Sampled.__struct_fields__ if field not in BESIDE)


class ChatRequest(Sampled, kw_only=True, forbid_unknown_fields=True):
    """A conversation. `max_completion_tokens` is the newer name of `max_tokens`."""

    messages: list[dict[str, Json]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Json]] | None = None
    tool_choice: str | dict[str, Json] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Json] | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is None:
            self.max_tokens = self.max_completion_tokens

    def input(self) -> Json:
        """The conversation and its tools."""
        return {"messages": self.messages, **without_unset({key: getattr(self, key) for key in TOOLS})}

    def params(self, rule: Rule | None) -> dict[str, Json]:
        own = ("logprobs", "top_logprobs", "chat_template_kwargs")
        return Sampled.params(self, rule) | without_unset({key: getattr(self, key) for key in own})

    def left_out(self, rule: Rule | None) -> dict[str, Enforced]:
        return Sampled.left_out(self, rule) | tools.left_out(tools.check_tools(self.input()).get("tools", ()))


TOOLS = ("tools", "tool_choice", "parallel_tool_calls")


class CompletionRequest(Sampled, kw_only=True, forbid_unknown_fields=True):
    """A text that continues each prompt: a text, or the ids of its tokens, or a list of such.

    `logprobs` is how many of the likeliest tokens to list. With `echo` the prompt comes first, and may come alone
    (`max_tokens` 0), with the log-probabilities of its own tokens.
    """

    prompt: str | list[Json]
    logprobs: int | bool | None = None
    echo: bool | None = None

    def params(self, rule: Rule | None) -> dict[str, Json]:
        said = Sampled.params(self, rule) | ({"echo": True} if self.echo else {})
        if self.logprobs is None or self.logprobs is False:
            return said
        return said | {"logprobs": True, "top_logprobs": int(self.logprobs)}
