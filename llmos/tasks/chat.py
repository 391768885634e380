"""chat: the next message of a conversation, through the template that the model's tokenizer brings along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmos.abi.error import BadInput
from llmos.tasks import Rendered, Settings, Tokenizer
from llmos.tasks.length import limit_of, may_cut, too_long
from llmos.tasks.text import shown, text_of

Json = Any  # Any: a JSON value that this task checks

ROLES = ("system", "developer", "user", "assistant", "tool")
EXAMPLE = '{"messages": [{"role": "user", "content": "Hello"}]}'


class Chat:
    """`parse` takes {"text", "finish_reason"}, as generate does."""

    name = "chat"
    headline = "perplexity"
    head = None

    def check(self, data: Json) -> Json:
        if isinstance(data, str):  # a bare text is the user's one message
            data = [{"role": "user", "content": text_of(data)}]
        messages = data.get("messages") if isinstance(data, dict) else data
        if not isinstance(messages, (list, tuple)) or not messages:
            raise BadInput(f"The input has no messages: {shown(data)}. Send {EXAMPLE}")
        return {"messages": [_message(i, message) for i, message in enumerate(messages)]}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        return [Rendered(_fit(one["messages"], tokenizer, settings)) for one in inputs]

    def parse(self, raw: Json, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        return {"message": {"role": "assistant", "content": raw["text"]}, "finish_reason": raw["finish_reason"]}


def _fit(messages: list[Json], tokenizer: Tokenizer, settings: Settings) -> list[int]:
    """The conversation as tokens; where it may be cut, its oldest messages go first, and the system's never."""
    limit = limit_of(settings) - 1
    while True:
        (encoded,) = tokenizer.encode([tokenizer.chat(messages)], special=False)
        if len(encoded.ids) <= limit:
            return encoded.ids
        oldest = next((i for i, one in enumerate(messages[:-1]) if one["role"] != "system"), None)
        if oldest is None or not may_cut(settings):
            raise too_long("The conversation", len(encoded.ids), limit, settings)
        messages = messages[:oldest] + messages[oldest + 1 :]


def _message(index: int, message: Json) -> Json:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise BadInput(f"messages[{index}] is {shown(message)}. It needs a role ({', '.join(ROLES)}), as in {EXAMPLE}")
    role = "system" if message["role"] == "developer" else message["role"]
    return {"role": role, "content": _content(index, message.get("content"))}


def _content(index: int, content: Json) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "".join(part["text"] for part in content)
    raise BadInput(f"messages[{index}].content is {shown(content)}. Only text can be read: a string, or parts of text")


TASK = Chat()
