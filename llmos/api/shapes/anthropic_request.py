"""The body of Anthropic's Messages, and the chat in OpenAI's shape that it is."""

from __future__ import annotations

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.api.call_service import CallFields, without_unset
from llmos.api.openai_schemas import ChatRequest
from llmos.api.openai_unsupported import Unsupported
from llmos.api.rules import NamedSchema, ResponseFormat
from llmos.api.shapes.chat import Naming
from llmos.tasks.text import quote_value

UNSUPPORTED = Unsupported(
    hints=frozenset({"service_tier", "inference_geo", "cache_control", "user_profile_id", "workspace_id", "speed"}),
    neutral={
        "thinking": ({"type": "disabled"},),
        "container": (),
        "mcp_servers": ([],),
        "context_management": ({"edits": []},),
    },
)
NAMES = {
    "stop": "stop_sequences",
    "response_format": "output_config",
    "parallel_tool_calls": "tool_choice",
    "max_completion_tokens": "max_tokens",
}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
ONE_TOOL = "tool"


class OutputFormat(msgspec.Struct, forbid_unknown_fields=True):
    """The schema of the answer."""

    type: str
    schema: dict[str, Json]


class OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    """`format` is the schema of the answer; `effort` is ignored."""

    effort: str | None = None
    format: OutputFormat | None = None


class AnthropicTool(msgspec.Struct, forbid_unknown_fields=True):
    """A function of the caller. `cache_control` is ignored."""

    name: str
    input_schema: dict[str, Json]
    description: str | None = None
    type: str | None = None
    strict: bool | None = None
    cache_control: Json = None


class ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    """`auto`, `any`, `none`, or `tool` with a name."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Conversation(CallFields, kw_only=True, forbid_unknown_fields=True):
    """What the model reads: messages of user and assistant, the system's text, and tools.

    `metadata.user_id` is `user`; the rest of `metadata` is ignored.
    """

    messages: list[dict[str, Json]]
    metadata: dict[str, Json] | None = None
    system: str | list[dict[str, Json]] | None = None
    tools: list[AnthropicTool] | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None


class MessagesRequest(Conversation, kw_only=True, forbid_unknown_fields=True):
    """A conversation and how it is answered; all names are Anthropic's."""

    max_tokens: int
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


def chat_of(body: Conversation, **sampling: Json) -> tuple[ChatRequest, Naming]:
    """The same chat in OpenAI's shape, and the names that its parts have in this body."""
    messages: list[dict[str, Json]] = []
    names: list[str] = []
    if body.system:
        messages.append({"role": "system", "content": _text_of(body.system, "system")})
        names.append("system")
    for index, one in enumerate(body.messages):
        place = f"messages[{index}]"
        made = _messages_of(one, place)
        messages += made
        names += [place] * len(made)
    if body.messages and body.messages[-1].get("role") == "assistant":
        raise BadInput(
            f"{place} is the assistant's: an answer that is begun cannot be continued. End with a message of the user",
            key=place,
            reason="prefill",
        )
    fields = without_unset({**sampling, **_tools_of(body), "response_format": _format_of(body)})
    call = {**body.for_call, "user": body.user or _user_in(body.metadata)}
    return ChatRequest(**call, messages=messages, **fields), Naming(NAMES, names)


def _user_in(metadata: dict[str, Json] | None) -> str | None:
    """Anthropic's place for whom the call is made on behalf of."""
    found = (metadata or {}).get("user_id")
    return found if isinstance(found, str) else None


def _messages_of(message: dict[str, Json], place: str) -> list[dict[str, Json]]:
    """The message in OpenAI's shape; results of tools are messages of their own, before its text."""
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant") or message.keys() - {"role", "content"}:
        said = "it has a role, user or assistant, and content. What the system says is the field `system`"
        raise BadInput(f"{place} is {quote_value(message)}; {said}", key=place, value=quote_value(message))
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list):
        raise BadInput(f"{place}.content is {quote_value(content)}; it is a text or a list of blocks", key=place)
    return _assistant_of(content, place) if role == "assistant" else _user_of(content, place)


def _assistant_of(blocks: list[Json], place: str) -> list[dict[str, Json]]:
    calls, texts = [], []
    for index, block in enumerate(blocks):
        key = f"{place}.content[{index}]"
        if _kind_of(block, key) == "tool_use":
            function = {"name": block.get("name"), "arguments": block.get("input") or {}}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        else:
            texts.append(_block_text(block, key))
    return [{"role": "assistant", "content": "".join(texts)} | ({"tool_calls": calls} if calls else {})]


def _user_of(blocks: list[Json], place: str) -> list[dict[str, Json]]:
    results, texts = [], []
    for index, block in enumerate(blocks):
        key = f"{place}.content[{index}]"
        if _kind_of(block, key) == "tool_result":
            content = _text_of(block.get("content") or "", f"{key}.content")
            results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content})
        else:
            texts.append(_block_text(block, key))
    return [*results, *([{"role": "user", "content": "".join(texts)}] if texts or not results else [])]


def _text_of(content: Json, key: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadInput(f"{key} is {quote_value(content)}; it is a text or a list of blocks of text", key=key)
    return "".join(_block_text(block, f"{key}[{index}]") for index, block in enumerate(content))


def _block_text(block: Json, key: str) -> str:
    kind = _kind_of(block, key)
    text = block.get("text")
    if kind != "text" or not isinstance(text, str):
        raise BadInput(f"{key} is of the type {quote_value(kind)}; only text can be read here", key=key, reason="type")
    return text


def _kind_of(block: Json, key: str) -> Json:
    if not isinstance(block, dict):
        raise BadInput(f"{key} is {quote_value(block)}; a block is an object with a type", key=key)
    return block.get("type")


def _tools_of(body: Conversation) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if body.tools:
        found["tools"] = [_function_of(index, one) for index, one in enumerate(body.tools)]
    choice = body.tool_choice
    if choice is None:
        return found
    if choice.type not in (*CHOICES, ONE_TOOL):
        raise BadInput(
            f"tool_choice.type is {quote_value(choice.type)}; it is auto, any, tool or none", key="tool_choice.type"
        )
    found["tool_choice"] = CHOICES.get(choice.type, {"type": "function", "function": {"name": choice.name}})
    if choice.disable_parallel_tool_use is not None:
        found["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return found


def _function_of(index: int, tool: AnthropicTool) -> Json:
    if tool.type not in (None, "custom"):
        key = f"tools[{index}].type"
        raise BadInput(f"{key} is {quote_value(tool.type)}: only tools of your own can be called", key=key)
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": without_unset({**function, "strict": tool.strict})}


def _format_of(body: Conversation) -> ResponseFormat | None:
    wanted = body.output_format if body.output_config is None else body.output_config.format
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        raise BadInput(f"The format is {quote_value(wanted.type)}; it is json_schema", key="output_config.format")
    return ResponseFormat("json_schema", NamedSchema(wanted.schema))
