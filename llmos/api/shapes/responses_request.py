"""The body of OpenAI's Responses, and the chat of OpenAI's earlier shape that it is."""

from __future__ import annotations

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.api.call_service import CallFields, without_unset
from llmos.api.openai_schemas import ChatRequest, StreamOptions
from llmos.api.openai_unsupported import HINTS, Unsupported, parse_supported
from llmos.api.rules import NamedSchema, ResponseFormat
from llmos.api.shapes.chat import Naming
from llmos.tasks.text import quote_value

STATELESS = "previous_response_id"
UNSUPPORTED = Unsupported(
    hints=HINTS | {"reasoning"},
    neutral={
        "background": (False,),
        "context_management": ([],),
        "conversation": (),
        "max_tool_calls": (),
        "moderation": (),
        "prompt": (),
        "truncation": ("disabled",),
    },
    unset={"priority": (0,)},
    within={"text": {"format": {}}},
)
NAMES = {
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "logprobs": "include",
}
LOGPROBS = "message.output_text.logprobs"
NO_EFFECT = ("reasoning.encrypted_content",)  # of `include`: there is no reasoning to show
TEXTS = ("input_text", "output_text", "text")
CALL, RESULT = "function_call", "function_call_output"


class TextFormat(msgspec.Struct, forbid_unknown_fields=True):
    """`text`, `json_object`, or `json_schema` with a schema."""

    type: str
    name: str = ""
    description: str | None = None
    schema: dict[str, Json] | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, forbid_unknown_fields=True):
    """`format` is the rule of the answer; `verbosity` is ignored."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ResponseRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """A conversation as `input`, with `instructions` before it. No response is kept to be asked for again.

    `store: false` keeps its text out of the request log too.
    """

    input: str | list[dict[str, Json]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Json]] | None = None
    tool_choice: str | dict[str, Json] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None

    def chat(self) -> tuple[ChatRequest, Naming]:
        """The same in the shape of chats, and the names that its parts have in this body."""
        messages, places = _messages_of(self.input)
        if self.instructions is not None:
            messages.insert(0, {"role": "system", "content": self.instructions})
            places.insert(0, "instructions")
        fields: dict[str, Json] = {
            **self.for_call,
            "max_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "tools": None if self.tools is None else [_tool_of(i, one) for i, one in enumerate(self.tools)],
            "tool_choice": self._choice(),
            "parallel_tool_calls": self.parallel_tool_calls if self.tools else None,
            "response_format": None if self.text is None else _format_of(self.text.format),
            **self._logprobs(),
        }
        return ChatRequest(messages=messages, **without_unset(fields)), Naming(NAMES, places)

    def _choice(self) -> Json:
        choice = self.tool_choice
        if isinstance(choice, dict) and choice.get("type") != "function":
            said = f"tool_choice is {quote_value(choice)}; it is auto, none, required, or a function by its name"
            raise BadInput(said, key="tool_choice")
        return choice

    def _logprobs(self) -> dict[str, Json]:
        for one in self.include or ():
            if one not in (LOGPROBS, *NO_EFFECT):
                raise BadInput(f"include has {quote_value(one)}, which is not supported. Leave it out", key="include")
        wanted = LOGPROBS in (self.include or ()) or bool(self.top_logprobs)
        return {"logprobs": True, "top_logprobs": self.top_logprobs or 0} if wanted else {}


def parse_request(given: dict[str, Json]) -> ResponseRequest:
    """The request; BadInput that says what to do where it names an earlier response."""
    if given.get(STATELESS) is not None:
        said = f"{STATELESS}: no response is kept here. Send the whole conversation as `input`"
        raise BadInput(said, key=STATELESS, reason="stateless")
    return parse_supported(given, ResponseRequest, UNSUPPORTED)


def _messages_of(given: str | list[dict[str, Json]]) -> tuple[list[dict[str, Json]], list[str]]:
    """The messages of OpenAI's chats, and the place of each in the input."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}], ["input"]
    messages: list[dict[str, Json]] = []
    places: list[str] = []
    for index, item in enumerate(given):
        place = f"input[{index}]"
        kind = item.get("type", "message")
        if kind == CALL:
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if messages and messages[-1]["role"] == "assistant":
                messages[-1].setdefault("tool_calls", []).append(call)
                continue
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        elif kind == RESULT:
            content = _text_of(item.get("output"), f"{place}.output")
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
        elif kind == "message":
            messages.append({"role": item.get("role"), "content": _text_of(item.get("content"), f"{place}.content")})
        else:
            said = f"it is a message, a {CALL} or a {RESULT}"
            raise BadInput(f"{place} is of the type {quote_value(kind)}; {said}", key=place, reason="type")
        places.append(place)
    return messages, places


def _text_of(content: Json, key: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadInput(f"{key} is {quote_value(content)}; it is a text or a list of parts", key=key)
    for index, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") not in TEXTS or not isinstance(part.get("text"), str):
            key = f"{key}[{index}]"
            raise BadInput(f"{key} is {quote_value(part)}; only text can be read here", key=key, reason="type")
    return "".join(part["text"] for part in content)


def _tool_of(index: int, tool: dict[str, Json]) -> Json:
    if tool.get("type") != "function":
        key = f"tools[{index}].type"
        raise BadInput(f"{key} is {quote_value(tool.get('type'))}: only functions of your own can be called", key=key)
    fields = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": without_unset({name: tool.get(name) for name in fields})}


def _format_of(wanted: TextFormat | None) -> ResponseFormat | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type != "json_schema":
        return ResponseFormat(wanted.type)
    schema = NamedSchema(wanted.schema, wanted.name, wanted.description, wanted.strict)
    return ResponseFormat("json_schema", schema)
