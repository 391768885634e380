"""Chat templates: compiled, tried at the pull, and rendered within bounds of time and memory.

The Jinja environment equals that of transformers, so that a conversation renders as it does there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from jinja2 import TemplateError, nodes

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.nn.text.sandbox import Environment, SandboxBudget, TooMuch
from llmos.tasks.tools import knows_tools, write_as_text

Message = dict[str, Json]

LIMIT_S = 5.0  # of CPU time for one conversation
WORD = "magpie"  # the text that trials look for in the rendered conversation
CALL: Json = {"type": "function", "function": {"name": "look", "arguments": {"at": 1}}}
TOOL: Json = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at something",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    },
}
CALLING: Message = {"role": "assistant", "content": "", "tool_calls": [CALL]}
HELLO: Message = {"role": "user", "content": WORD}
TRIALS: dict[str, tuple[list[Message], list[Json]]] = {
    "text": ([HELLO], []),
    "answers": ([HELLO, {"role": "assistant", "content": WORD}, HELLO], []),
    "system": ([{"role": "system", "content": WORD}, HELLO], []),
    "tools": ([HELLO, CALLING, {"role": "tool", "content": WORD}], [TOOL]),
}
ROLES = ("system", "user", "assistant", "tool")


class ChatTemplate:
    """A compiled chat template. Errors call its model `name`."""

    def __init__(self, text: str, name: str, limit_s: float = LIMIT_S) -> None:
        self.text, self.name, self._limit_s = text, name, limit_s
        environment = Environment()
        try:
            self._tree = environment.parse(text)
            self._compiled = environment.from_string(text)
        except Exception as error:  # a template is foreign code: any failure in it is a fault of the template
            raise BadInput(
                f"The chat template of {name} does not compile: {_error_line(error)}. {WAY_OUT}",
                model=name,
                reason="not_compiled",
                template_line=getattr(error, "lineno", None),
            ) from error

    def render(
        self, messages: Sequence[Message], tools: Sequence[Json], *, opens: bool, named: Mapping[str, Json]
    ) -> str:
        """Render the conversation as the model reads it; BadInput if the template refuses it or fails."""
        try:
            return self._render(messages, tools, opens=opens, named=named)
        except Exception as error:  # as above
            raise BadInput(
                f"The chat template of {self.name} refuses this conversation: {_error_line(error)}",
                model=self.name,
                reason="refused",
            ) from error

    def _render(
        self, messages: Sequence[Message], tools: Sequence[Json], *, opens: bool, named: Mapping[str, Json]
    ) -> str:
        said: dict[str, Json] = {**named, "messages": list(messages), "tools": list(tools) or None, "documents": None}
        with SandboxBudget(self._limit_s) as budget:
            return budget.join(self._compiled.generate(said | {"add_generation_prompt": opens}))

    def takes_parts(self, role: str) -> bool:
        """Whether messages of this role lose their text unless it is a list of parts, because the template loops over
        parts."""
        return self._by_parts.get(role, False)

    @cached_property
    def _by_parts(self) -> dict[str, bool]:
        try:
            return {role: not self._shows(role, WORD) and self._shows(role, in_parts(WORD)) for role in ROLES}
        except TooMuch:  # the error appears when a conversation is rendered
            return {}

    def _shows(self, role: str, content: Json) -> bool:
        said = {"role": role, "content": content}
        quiet: Message = {"role": "user", "content": ""}
        for messages in ([said], [quiet, said], [said, quiet], [quiet, CALLING, said]):
            try:
                if WORD in self._render(messages, [], opens=True, named=NAMED):
                    return True
            except TooMuch:
                raise
            except Exception:  # noqa: BLE001  # it takes no conversation of this order
                continue
        return False

    def trial(self, named: Mapping[str, str] | None = None) -> dict[str, Json]:
        """The result of the pull's trials: the roles that need parts, and the refused kinds of conversation with the
        reason."""
        refuses: dict[str, str] = {}
        for kind, (messages, tools) in TRIALS.items():
            if tools and not knows_tools(self.text):  # such a template gets tools as part of the system text
                messages, tools = write_as_text(messages, tools), []
            try:
                self._render([self.shape_message(one) for one in messages], tools, opens=True, named=named or NAMED)
            except Exception as error:  # noqa: BLE001  # likewise
                refuses[kind] = _error_line(error)
                if isinstance(error, TooMuch):
                    break
        parts = [role for role in ROLES if self.takes_parts(role)]
        return {"parts": parts, "refuses": refuses}

    def shape_message(self, message: Message) -> Message:
        """The message with its content as text or as parts, as this template needs."""
        if not isinstance(message.get("content"), str) or not self.takes_parts(str(message.get("role"))):
            return message
        return {**message, "content": in_parts(message["content"])}

    @cached_property
    def sought(self) -> frozenset[str]:
        """The literals that the template compares with or searches for, such as `</think>` in an answer."""
        found: set[str] = set()
        compared = [one for node in self._tree.find_all(nodes.Compare) for one in (node.expr, *_others(node))]
        calls = (node for node in self._tree.find_all(nodes.Call) if isinstance(node.node, nodes.Getattr))
        for one in (*compared, *(arg for node in calls for arg in node.args)):
            if isinstance(one, nodes.Const) and isinstance(one.value, str):
                found.add(one.value)
        return frozenset(found)


NAMED = {"bos_token": "", "eos_token": "", "pad_token": "", "unk_token": ""}
WAY_OUT = "Bring in the model with a mended one, or use the task generate"


def in_parts(text: str) -> list[Json]:
    """The text as a list of OpenAI's content parts."""
    return [{"type": "text", "text": text}]


def _others(comparison: nodes.Compare) -> list[nodes.Expr]:
    return [one.expr for one in comparison.ops]


def _error_line(error: Exception) -> str:
    """The error in one line."""
    if isinstance(error, RecursionError):
        return "it calls itself without end"
    line = getattr(error, "lineno", None)
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if not isinstance(error, (TemplateError, TooMuch)):
        said = f"{type(error).__name__}: {said}"
    return f"{said} (line {line})" if line else said
