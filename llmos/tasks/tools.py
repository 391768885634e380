"""Tools: the functions a conversation may call, how the model is told of them, and its calls read back from its text.

Calls are written as most open models learnt it: JSON with a name and arguments between <tool_call> and </tool_call>. A
template that knows that form tells the model itself; for any other, a system text does.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks.generate import Sampling
from llmos.tasks.grammar import JSON_SCHEMA, LARK, SPACING, Grammar, fitting, schema_text
from llmos.tasks.grammar import TOOLS as RULE
from llmos.tasks.schema import Enforced, enforceable, not_enforceable
from llmos.tasks.text import quote_value

OPEN, CLOSE = "<tool_call>", "</tool_call>"
PIECE = re.compile(
    rf'{CLOSE}|"[^"\\]*(?:\\.[^"\\]*)*"|[^"<]+|<', re.DOTALL
)  # of a call: its end, a string, anything else
AUTO, NONE, REQUIRED = "auto", "none", "required"
LEAST_MARK = 5  # characters of OPEN at the end of an answer that was cut: fewer are text
ANSWER = "answer"  # the rule of an answer that calls nothing
MAX_TOOLS = 128
MAX_BYTES = 400_000  # of all tools together; what enforces them is smaller, for it has no descriptions
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
BEGUN = re.compile(OPEN + r'\n\{"name": "([\w.-]+)"')
NAMED = re.compile(r'^f(\d+): "\{\\"name\\": \\"([\w.-]+)\\"', re.MULTILINE)  # in a rule that tools make
ARGUMENTS = re.compile(r"^a(\d+): %json (.*)$", re.MULTILINE)
NO_ARGUMENTS: Json = {"type": "object", "properties": {}, "additionalProperties": False}
EXAMPLE = '{"type": "function", "function": {"name": "weather", "description": "...", "parameters": {...}}}'
TOLD = """You can call functions. They are described here, one a line:
<tools>
{tools}
</tools>
To call one, answer with its name and its arguments as JSON and with nothing else, like this:
<tool_call>
{{"name": "...", "arguments": {{...}}}}
</tool_call>"""


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions, by name, that may be called, and whether one must be; `many`: several in one answer. `places` are
    their numbers in the request, where those are others."""

    functions: dict[str, Json]
    must: bool = False
    many: bool = False
    places: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolRule:
    """One function in the rule that tools make: its number in the request, its name, and its parameters as JSON."""

    number: str
    name: str
    schema: str


@dataclass(frozen=True, slots=True)
class Called:
    """A function that the model calls; `arguments` is JSON."""

    name: str
    arguments: str


def check_tools(data: Json) -> dict[str, Json]:
    """`tools`, `tool_choice`, `parallel_tool_calls` of a chat's input in their normal form; nothing without tools."""
    given = data.get("tools")
    if given is not None and (not isinstance(given, (list, tuple)) or len(given) > MAX_TOOLS):
        raise BadInput(
            f"tools is {quote_value(given)}; it must be a list of at most {MAX_TOOLS}, each {EXAMPLE}",
            key="tools",
            value=quote_value(given),
        )
    _check_size(given)
    tools = [_checked_tool(i, tool) for i, tool in enumerate(given or ())]
    names = [tool["function"]["name"] for tool in tools]
    for i, name in enumerate(names):
        if name in names[:i]:
            said = f"tools has two functions called {name!r}, tools[{names.index(name)}] and tools[{i}]"
            raise BadInput(f"{said}. Give each its own name", key=f"tools[{i}].function.name", value=quote_value(name))
    choice = _checked_choice(data.get("tool_choice"), names)
    many = data.get("parallel_tool_calls")
    if many is not None and not isinstance(many, bool):
        raise BadInput(
            f"parallel_tool_calls is {quote_value(many)}; it must be true or false",
            key="parallel_tool_calls",
            value=quote_value(many),
        )
    if not tools or choice == NONE:
        return {}
    return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": many}


def _check_size(tools: Json) -> None:
    size = sum(_size_of(i, tool) for i, tool in enumerate(tools or ()))
    if size > MAX_BYTES:
        raise BadInput(f"tools have {size:,} bytes; they may have {MAX_BYTES:,}", key="tools", limit=MAX_BYTES)


def _size_of(index: int, tool: Json) -> int:
    key = f"tools[{index}]"
    try:
        return len(msgspec.json.encode(tool))
    except RecursionError as error:
        raise BadInput(f"{_tool_key(key, tool)} is nested too deeply. Make its parameters flatter", key=key) from error
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{_tool_key(key, tool)} has half of a surrogate pair. Send whole characters", key=key
        ) from error


def _tool_key(key: str, tool: Json) -> str:
    """The key of a tool, or of a part of it, with its name where it has one."""
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return f"{key} of {name}" if isinstance(name, str) and NAME.fullmatch(name) else key


def _checked_tool(index: int, tool: Json) -> Json:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type", "function") == "function" else None
    key = f"tools[{index}]"
    if not isinstance(function, dict) or not NAME.fullmatch(str(function.get("name", ""))):
        said = "with a name of letters, digits, _ . and -, at most 64"
        raise BadInput(f"{key} is {quote_value(tool)}; it must be {EXAMPLE}, {said}", key=key, value=quote_value(tool))
    parameters, strict = function.get("parameters"), function.get("strict")
    if strict not in (None, True, False):
        key = f"{key}.function.strict"
        raise BadInput(
            f"{_tool_key(key, tool)} is {quote_value(strict)}; it must be true or false",
            key=key,
            value=quote_value(strict),
        )
    schema = NO_ARGUMENTS if parameters is None else parameters
    _enforceable_parameters(index, function["name"], schema, is_strict=strict is True)
    kept = {"name": function["name"], "description": function.get("description") or "", "parameters": schema}
    return {"type": "function", "function": kept | ({"strict": True} if strict else {})}


def _enforceable_parameters(index: int, name: str, parameters: Json, *, is_strict: bool = False) -> Enforced:
    """What of a function's parameters can be enforced: an object, with no properties but those that are given."""
    key = f"tools[{index}].function.parameters"
    try:
        fitting(key, schema_text(key, parameters))
        found = enforceable(key, parameters, is_closed=True)
        if found.left_out and is_strict:
            raise not_enforceable(key, found)
    except BadInput as error:
        raise BadInput(error.message.replace(key, f"{key} of {name}", 1), **error.detail) from error
    if found.schema.setdefault("type", "object") != "object":
        said = f"{quote_value(found.schema['type'])}; arguments are an object"
        raise BadInput(f"{key} of {name} is of the type {said}. Make it one, with properties", key=key)
    return found


def left_out(tools: Sequence[Json]) -> dict[str, Enforced]:
    """By the name of each tool's parameters in a request, what of these can be enforced. Takes checked tools."""
    functions = [tool["function"] for tool in tools]
    return {
        f"tools[{i}].function.parameters": _enforceable_parameters(i, one["name"], one["parameters"])
        for i, one in enumerate(functions)
    }


def _checked_choice(choice: Json, names: Sequence[str]) -> str | dict[str, Json]:
    """`auto`, `none`, `required`, or the one function."""
    if isinstance(choice, dict):
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, dict) else None
        if name not in names:
            known = ", ".join(names) or "there are none"
            said = f"tool_choice names {quote_value(name)}, which is not among the tools: {known}"
            raise BadInput(said, key="tool_choice", value=quote_value(name), expected=list(names))
        return {"type": "function", "function": {"name": name}}
    if choice not in (None, AUTO, NONE, REQUIRED):
        said = 'it is auto, none, required, or {"type": "function", "function": {"name": "..."}}'
        raise BadInput(f"tool_choice is {quote_value(choice)}; {said}", key="tool_choice", value=quote_value(choice))
    if choice == REQUIRED and not names:
        raise BadInput(
            "tool_choice is required, and there are no tools to call. Send tools", key="tool_choice", reason="no_tools"
        )
    return AUTO if choice is None else str(choice)


def tools_of(checked_input: Json, *, knows_tools: bool) -> Tools | None:
    """The tools of a checked input. Several calls in one answer are for models that learnt that, unless it is said."""
    if "tools" not in checked_input:
        return None
    functions = {
        tool["function"]["name"]: {**tool["function"], "parameters": found.schema}
        for tool, found in zip(checked_input["tools"], left_out(checked_input["tools"]).values(), strict=True)
    }
    choice, many = checked_input["tool_choice"], checked_input["parallel_tool_calls"]
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        return Tools({name: functions[name]}, must=True, places={name: [*functions].index(name)})
    return Tools(functions, must=choice == REQUIRED, many=knows_tools if many is None else many)


def knows_tools(text: str) -> bool:
    """Whether a template tells the model of tools, and to call them in the one form that is read back here."""
    return "tools" in text and all(mark in text for mark in ("<tool_call>", "arguments")) and "<function=" not in text


def write_as_text(messages: Sequence[Json], tools: Sequence[Json]) -> list[Json]:
    """The conversation for a template that knows no tools: all of it as the plain text that such a template knows."""
    plain = [_plain(message) for message in messages]
    if not tools:
        return plain
    text = TOLD.format(tools="\n".join(msgspec.json.encode(tool["function"]).decode() for tool in tools))
    if plain[0]["role"] == "system":
        return [{**plain[0], "content": f"{plain[0]['content']}\n\n{text}"}, *plain[1:]]
    return [{"role": "system", "content": text}, *plain]


def _plain(message: Json) -> Json:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = [_write_call(call["function"]) for call in message.get("tool_calls", ())]
    return {"role": message["role"], "content": "\n".join([part for part in (message["content"], *calls) if part])}


def _write_call(function: Json) -> str:
    said = {"name": function["name"], "arguments": function["arguments"]}
    return f"{OPEN}\n{msgspec.json.encode(said).decode()}\n{CLOSE}"


def with_tool_rule(settings: Sampling, tools: Tools | None) -> Sampling:
    """The settings under which every call that is begun is one of these functions with arguments that fit it."""
    if tools is None:
        return settings
    has_prose = not tools.must and settings.grammar is None
    numbered = {tools.places.get(name, i): (name, one) for i, (name, one) in enumerate(tools.functions.items())}
    lines = [
        f'start: "{OPEN}" calls' if tools.must else f"start: lead calls | {ANSWER}",
        f'calls: body ("\\n{OPEN}" body)*' if tools.many else "calls: body",
        'body: "\\n" (' + " | ".join(f"f{i}" for i in numbered) + f') "\\n{CLOSE}"',
    ]
    for i, (name, function) in numbered.items():
        lines.append(f'f{i}: "{{\\"name\\": \\"{name}\\", \\"arguments\\": " a{i} "}}"')
        lines.append(f"a{i}: {_inline(function['parameters'])}")
    if not tools.must:
        lines += _answer(settings.grammar)
    text = fitting(RULE, "\n".join(lines))
    return replace(settings, grammar=Grammar(LARK, text, RULE, OPEN if has_prose else ""))


def _answer(rule: Grammar | None) -> list[str]:
    """What an answer that calls nothing may be, and what may come before a call: any text without a call in it.

    Where the answer is to follow a rule, that, and nothing before a call.
    """
    if rule is None:
        anything = "(?s:.*)"
        text = f"TEXT: /{anything}/ & ~/{anything}{OPEN}{anything}/"
        return [f"lead[lazy]: /{anything}{OPEN}/", f"{ANSWER}: TEXT", text]
    if rule.kind == JSON_SCHEMA:
        return [f'lead: "{OPEN}"', f"{ANSWER}: {_inline(msgspec.json.decode(rule.text))}"]
    said = f"{rule.kind} and tools cannot both be kept to. Leave one out, or use json_schema"
    raise BadInput(said, key=rule.kind, reason="two_rules")


def parts_of(text: str) -> list[ToolRule]:
    """The functions in the text of a rule that tools make, in their order."""
    names = dict(NAMED.findall(text))
    return [ToolRule(number, names[number], schema) for number, schema in ARGUMENTS.findall(text) if number in names]


def alone(parts: Sequence[ToolRule]) -> str:
    """A rule of the parameters of these functions alone."""
    lines = [f"start: {' | '.join(f'a{i}' for i in range(len(parts)))}"]
    return "\n".join([*lines, *(f"a{i}: %json {one.schema}" for i, one in enumerate(parts))])


def called_in(text: str) -> str:
    """The function of the last call that an answer has, or begins; empty where it has none."""
    found = BEGUN.findall(text)
    return found[-1] if found else ""


def _inline(schema: Json) -> str:
    return f"%json {schema_text('parameters', {**schema, 'x-guidance': SPACING})}"


def read(text: str, tools: Tools, *, is_over: bool) -> tuple[str, list[Called]]:
    """What of an answer's text is text, and the calls in it; marks of calls are neither.

    While it grows, what may become a call waits; once it is over, a call that was cut is left out.
    """
    said, calls, rest = "", [], text
    while (start := rest.find(OPEN)) >= 0:
        body, end = _body_at(rest, start + len(OPEN))
        if end is None:
            break
        call = _call_in(body, tools)
        said += rest[:start] if call else rest[:start] + body
        calls += [call] if call else []
        rest = rest[end:]
    begun = rest.find(OPEN)
    kept = begun if begun >= 0 else len(rest) - _overlap(rest, LEAST_MARK if is_over else 1)
    said += rest[:kept]
    return (said.rstrip() if calls or kept < len(rest) or not is_over else said), calls


def _body_at(text: str, start: int) -> tuple[str, int | None]:
    """What stands between the marks of a call, and where the text goes on behind it; None where it has no end.

    A mark in a string of the arguments is a part of the string.
    """
    place = start
    while found := PIECE.match(text, place):
        if found[0] == CLOSE:
            return text[start:place], found.end()
        place = found.end()
    return "", None


def _overlap(text: str, least: int) -> int:
    """How many characters at the end, from so many on, may be the beginning of a call."""
    return next((n for n in range(min(len(text), len(OPEN) - 1), least - 1, -1) if text.endswith(OPEN[:n])), 0)


def is_call_at_end(text: str) -> bool:
    """Whether an answer ends with a whole call, so that nothing of it is cut."""
    text, end = text.rstrip(), 0
    while (start := text.find(OPEN, end)) >= 0:
        _, after = _body_at(text, start + len(OPEN))
        if after is None:
            return False
        end = after
    return 0 < end == len(text)


def _call_in(body: str, tools: Tools) -> Called | None:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    if not isinstance(found, dict) or found.get("name") not in tools.functions:
        return None
    arguments = found.get("arguments", {})
    return Called(found["name"], msgspec.json.encode(arguments).decode()) if isinstance(arguments, dict) else None


def to_openai_call(call: Called) -> Json:
    """A call as OpenAI writes it, with an id that the tool's answer will name."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
