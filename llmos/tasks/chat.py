"""chat: the next message of a conversation, through the template that the model's tokenizer brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from llmos.abi.call import characters
from llmos.abi.error import BadInput, TooLong
from llmos.abi.json_type import Json
from llmos.abi.task import OBJECTIVE, PREFERENCES, Family, Output, TaskSpec
from llmos.tasks import Rendered, Settings, Tokenizer, TrainingTokenizer, sft_example, tools
from llmos.tasks.generate import PARAMS, ending
from llmos.tasks.inputs import naming_place
from llmos.tasks.templating import PARAM, for_template
from llmos.tasks.text import check_chars, limit_of, may_cut, most_chars, part_of, quote_value, text_of, too_long

ROLES = ("system", "developer", "user", "assistant", "tool")
WHAT = "The conversation"
EXAMPLE = '{"messages": [{"role": "user", "content": "Hello"}]}'


@dataclass(frozen=True, slots=True)
class Chat:
    """`parse` takes {"text", "finish_reason"} as generate does, and in a stream also {"before"}: the text so far.

    An input may have tools: `tools`, `tool_choice` and `parallel_tool_calls`, as in OpenAI's API. `given` are a call's
    further template variables; training has none.
    """

    given: Mapping[str, Json] = field(default_factory=dict)

    spec = TaskSpec(
        name="chat",
        family=Family.TEXT,
        output=Output.MESSAGE,
        primary_metric="likelihood",
        about="The next message of a conversation.",
        head=None,
        params=PARAMS | {PARAM},
        settings=(OBJECTIVE, PREFERENCES),
        is_open_ended=True,
        uses_template=True,
        example_input="Hello!",
        example_output={"message": {"role": "assistant", "content": "Hi!"}, "finish_reason": "stop"},
    )

    def with_params(self, params: dict[str, Json]) -> Chat:
        """The task with a call's params."""
        return Chat(for_template(params))

    def check(self, data: Json) -> Json:
        if isinstance(data, str):  # a plain text is one message of the user
            data = [{"role": "user", "content": text_of(data)}]
        messages = data.get("messages") if isinstance(data, dict) else data
        if not isinstance(messages, (list, tuple)) or not messages:
            raise BadInput(f"The input has no messages: {quote_value(data)}. Send {EXAMPLE}", value=quote_value(data))
        normal = []
        for i, message in enumerate(messages):
            with naming_place(at=f"messages[{i}]"):
                normal.append(_message(i, message))
        return {"messages": normal} | (tools.check_tools(data) if isinstance(data, dict) else {})

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        return [_render_recent(one, tokenizer, settings, given=self.given) for one in inputs]

    def teach(self, asked: Json, answer: Json, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
        """Every message of the assistant is an answer to all before it; `answer` is the last: its text, or the whole
        message."""
        last = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
        messages = [*asked["messages"], last]
        turns = [i for i, message in enumerate(messages) if i and message["role"] == "assistant"]
        return sft_example.render_examples(
            _turn({**asked, "messages": messages[: i + 1]}, tokenizer, settings) for i in turns
        )

    def teach_last(self, asked: Json, answer: Json, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
        """The last answer alone: earlier messages of the assistant are part of what is answered."""
        last = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
        messages = [*asked["messages"], last]
        return sft_example.render_examples([_turn({**asked, "messages": messages}, tokenizer, settings)])

    def parse(self, raw: Json, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        if isinstance(rendered.context, tools.Tools):
            return _parse_calls(raw, rendered.context)
        return {"message": {"role": "assistant", "content": raw["text"]}, **ending(raw)}


def _parse_calls(raw: Json, known: tools.Tools) -> Json:
    """Parse an answer, or its newest piece, with the calls in it."""
    is_over, is_piece = raw["finish_reason"] is not None, "before" in raw
    before = raw.get("before", "")
    said, calls = tools.read(before + raw["text"], known, is_over=is_over)
    told, told_calls = tools.read(before, known, is_over=False)
    message: dict[str, Json] = {"role": "assistant", "content": said[len(told) :]}
    new = [tools.to_openai_call(call) for call in calls[len(told_calls) :]]
    if new:
        places = range(len(told_calls), len(calls))
        message["tool_calls"] = [{"index": i, **one} for i, one in zip(places, new, strict=True)] if is_piece else new
    is_cut = raw["finish_reason"] == "length"
    is_call_cut = is_cut or (is_over and raw["text"])  # by `max_tokens`, or by a stop text
    if new or (is_call_cut and not is_piece):
        message["content"] = message["content"] or None
    is_call = bool(calls) and (
        raw["finish_reason"] == "stop" or (is_cut and tools.is_call_at_end(before + raw["text"]))
    )
    return {"message": message, **ending(raw), "finish_reason": "tool_calls" if is_call else raw["finish_reason"]}


def _turn(one: Json, tokenizer: TrainingTokenizer, settings: Settings) -> tuple[list[int], list[int]]:
    """The last message's prompt, as it is served, and the message as the template writes it, both as tokens."""
    *before, last = _recent(one, tokenizer, settings, keep=2)
    known = one.get("tools", ())
    opened = _text(before, known, tokenizer)
    whole = tokenizer.chat_whole(*_template_input([*before, last], known, tokenizer))
    ignores_ends = whole == _text([*before, last], known, tokenizer)  # and opens the next answer behind every message
    said = last["content"] if ignores_ends or not whole.startswith(opened) else whole[len(opened) :]
    (prompt,) = tokenizer.encode([opened], special=False)
    answer = sft_example.continue_answer(opened, said, prompt.ids, tokenizer, special=False)
    room = sft_example.room_for(answer, settings)
    return _render_recent({**one, "messages": before}, tokenizer, settings, room).ids, answer


def _text(
    messages: Sequence[Json], known: Sequence[Json], tokenizer: Tokenizer, given: Mapping[str, Json] | None = None
) -> str:
    return tokenizer.chat(*_template_input(messages, known, tokenizer), given)


def _template_input(
    messages: Sequence[Json], known: Sequence[Json], tokenizer: Tokenizer
) -> tuple[Sequence[Json], Sequence[Json]]:
    """Messages and tools in the template's form, also for templates without tools."""
    return (messages, known) if tokenizer.knows_tools else (tools.write_as_text(messages, known), ())


def _render_recent(
    one: Json,
    tokenizer: Tokenizer,
    settings: Settings,
    room: int | None = None,
    given: Mapping[str, Json] | None = None,
) -> Rendered:
    """The conversation as tokens; if it may be cut, the oldest messages are dropped first, and never the system's."""
    limit = limit_of(settings) - 1 if room is None else room
    known, messages = one.get("tools", ()), _recent(one, tokenizer, settings)
    context = tools.tools_of(one, knows_tools=tokenizer.knows_tools)
    while True:
        try:
            return Rendered(_ids(messages, known, tokenizer, settings, limit, given), context)
        except TooLong:
            oldest = _oldest(messages)
            if oldest is None or not may_cut(settings):
                raise
        messages = messages[:oldest] + messages[oldest + 1 :]


def _ids(
    messages: Sequence[Json],
    known: Sequence[Json],
    tokenizer: Tokenizer,
    settings: Settings,
    limit: int,
    given: Mapping[str, Json] | None,
) -> list[int]:
    """The conversation's tokens; TooLong above the limit."""
    text, context = _text(messages, known, tokenizer, given), limit_of(settings)
    part = part_of(text, WHAT, tokenizer, limit, settings, cuts=False, context=context)
    (encoded,) = tokenizer.encode([part], special=False)
    if len(encoded.ids) > limit:
        is_whole = len(part) == len(text)
        raise too_long(WHAT, len(encoded.ids), limit, settings, is_whole=is_whole, context=context)
    return encoded.ids


def _recent(one: Json, tokenizer: Tokenizer, settings: Settings, *, keep: int = 1) -> list[Json]:
    """The messages, or, if they may be cut, the newest ones within the character limit.

    This comes before rendering, because a template reads everything. The last `keep` and the system's stay; TooLong if
    these exceed the limit.
    """
    messages, limit = list(one["messages"]), limit_of(settings)
    sizes = [characters(message) for message in messages]
    chars, most = sum(sizes) + characters(one.get("tools", ())), most_chars(tokenizer, limit)
    if chars <= most:
        return messages
    left: list[Json] = []
    for i, message in enumerate(messages):
        if may_cut(settings) and chars > most and i < len(messages) - keep and message["role"] != "system":
            chars -= sizes[i]
        else:
            left.append(message)
    check_chars(WHAT, chars, tokenizer, limit, settings, context=limit)
    return left


def _oldest(messages: Sequence[Json]) -> int | None:
    """The index of the message that is dropped first."""
    return next((i for i, one in enumerate(messages[:-1]) if one["role"] != "system"), None)


def _message(index: int, message: Json) -> Json:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise BadInput(
            f"messages[{index}] is {quote_value(message)}. It needs a role ({', '.join(ROLES)}), as in {EXAMPLE}",
            value=quote_value(message),
        )
    role = "system" if message["role"] == "developer" else message["role"]
    content = message.get("content")
    if role == "assistant" and content is None:  # answers that only called tools, or were cut before a word
        content = ""
    content = _content(index, content)
    calls = message.get("tool_calls") if role == "assistant" else None
    if not calls:
        return {"role": role, "content": content}
    if not isinstance(calls, (list, tuple)):
        raise BadInput(
            f"messages[{index}].tool_calls is {quote_value(calls)}; it must be a list", value=quote_value(calls)
        )
    return {"role": role, "content": content, "tool_calls": [_call(index, call) for call in calls]}


def _call(index: int, call: Json) -> Json:
    """An earlier call with its arguments as an object, which templates expect."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        said = 'it is {"id", "type": "function", "function": {"name", "arguments"}}'
        raise BadInput(f"messages[{index}].tool_calls has {quote_value(call)}; {said}", value=quote_value(call))
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            said = f"The arguments of {function['name']} in messages[{index}] are not JSON: {quote_value(arguments)}"
            raise BadInput(said, value=quote_value(arguments)) from error
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _content(index: int, content: Json) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "".join(part["text"] for part in content)
    raise BadInput(
        f"messages[{index}].content is {quote_value(content)}. Only text can be read: a string, or parts of text",
        value=quote_value(content),
    )


TASK = Chat()
